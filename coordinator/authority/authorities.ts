import type { X509Certificate } from 'node:crypto'
import { hostname } from 'node:os'
import type { Clock } from '../../shared/clock.ts'
import { pause } from '../../shared/lifecycle.ts'
import type { Authority } from '../../shared/x509/authority.ts'
import { isCertificateName, type SubjectAltName } from '../../shared/x509/issue-certificate.ts'
import { type KeptAuthorities, readAuthorities, writeAuthorities } from './authority-file.ts'
import {
  type ClientRequest,
  type Issued,
  issueClient,
  type PreparedClient,
  prepareClient,
} from './issue-client.ts'
import { completeLifetimes, type Lifetimes, MAX_OPERATOR_MS } from './lifetimes.ts'
import { makeAuthority } from './make-authority.ts'
import { addPin, dropPin, type Rotation, type RotationStep, shownPin, switchToPin } from './rotation.ts'
import { contextOf, makeServerLeaf, type ServerContext, type ServerLeaf } from './server-leaf.ts'
import { requireServerNames, sameNames } from './server-names.ts'

// INVARIANTS
// - `#kept` is what the file says: it changes after the write, in one assignment. A failed write changes nothing here.
// - One change at a time (`#inTurn`); issuing and reading need no turn, they look at one immutable snapshot.
// - The leaf always belongs to an authority that is trusted, and the listeners hear of each new snapshot as a whole.

export interface AuthoritiesOptions {
  readonly clock: Clock
  /** Host names and IP addresses the coordinator is reached by; localhost and this computer's name are added. */
  readonly names: readonly string[]
  readonly lifetimes?: Partial<Lifetimes>
  /** False where machines have enrolled already: a missing authority is then an error and not a first start. */
  readonly mayCreate?: boolean
  /** Told when the listeners' certificate could not be made anew; it is tried again within a minute. */
  readonly onRenewalError?: (error: unknown) => void
}

export interface AuthorityView {
  readonly pin: string
  readonly certificatePem: string
  readonly notAfter: Date
  readonly issuing: boolean
  /** The listeners show a certificate of this one; tokens and media carry this pin. */
  readonly shown: boolean
}

export type RotationResult =
  | { readonly ok: true; readonly pin: string }
  | { readonly ok: false; readonly reason: string }

/** Clocks jump and computers sleep: no timer is trusted for longer than this. */
const LONGEST_WAIT_MS = 60_000
const RETRY_MS = 5_000

/**
 * The certificate authorities of a coordinator: issues the certificates of machines and operators, keeps the listeners'
 * own, and replaces an authority step by step (see `rotation.ts` for the order). One process owns the folder.
 */
export class Authorities implements AsyncDisposable {
  readonly #directory: string
  readonly #options: AuthoritiesOptions
  readonly #lifetimes: Lifetimes
  readonly #listeners = new Set<() => void>()
  readonly #stop = new AbortController()
  #names: readonly string[]
  #kept: KeptAuthorities
  #leaf: ServerLeaf
  #context: ServerContext
  #turn: Promise<unknown> = Promise.resolve()
  #renewing: Promise<void> = Promise.resolve()

  constructor(directory: string, options: AuthoritiesOptions, kept: KeptAuthorities, leaf: ServerLeaf) {
    this.#directory = directory
    this.#options = options
    this.#lifetimes = completeLifetimes(options.lifetimes ?? {})
    this.#names = options.names
    this.#kept = kept
    this.#leaf = leaf
    this.#context = contextOf(leaf, certificatesOf(kept))
    this.#renewing = this.#renewInTime()
  }

  /** The authorities, oldest first. */
  list(): AuthorityView[] {
    const rotation = rotationOf(this.#kept)
    return this.#kept.authorities.map(({ authority: { pin, certificatePem, notAfter } }) => {
      return {
        pin,
        certificatePem,
        notAfter,
        issuing: pin === rotation.issuing,
        shown: pin === shownPin(rotation),
      }
    })
  }

  /** The pin a stranger meets on the enrolment listener: what tokens and boot media carry. */
  get shownPin(): string {
    return this.#leaf.shownPin
  }

  get issuingPin(): string {
    return this.#kept.issuing
  }

  /** Certifies a machine's key, for the machines' lifetime. */
  issueMachine(publicKeyDer: Uint8Array): Issued {
    return issueClient(this.#requestFor('machine', publicKeyDer, this.#lifetimes.machineMs))
  }

  /** The same, with the signature still to be made, on another thread. */
  prepareMachine(publicKeyDer: Uint8Array): PreparedClient {
    return prepareClient(this.#requestFor('machine', publicKeyDer, this.#lifetimes.machineMs))
  }

  /** Certifies an operator's key. The name is for people: lists and the audit log show it. */
  issueOperator(publicKeyDer: Uint8Array, name: string, lifetimeMs = this.#lifetimes.operatorMs): Issued {
    if (!isCertificateName(name)) return { ok: false, reason: 'name: wanted 1 to 64 printable characters' }
    if (!(lifetimeMs >= 1000 && lifetimeMs <= MAX_OPERATOR_MS)) {
      return { ok: false, reason: 'lifetime: wanted between a second and 366 days' }
    }
    return issueClient(this.#requestFor('operator', publicKeyDer, lifetimeMs, name))
  }

  #requestFor(
    kind: 'machine' | 'operator',
    publicKeyDer: Uint8Array,
    lifetimeMs: number,
    name?: string,
  ): ClientRequest {
    const authority = authorityOf(this.#kept, this.#kept.issuing)
    const now = this.#options.clock.now()
    return { authority, kind, publicKeyDer, lifetimeMs, now, ...(name === undefined ? {} : { name }) }
  }

  /**
   * Which trusted authority issued a certificate. Undefined: none, so a connection that was let in with it before a
   * `drop` is to be ended.
   */
  issuerOf(certificate: X509Certificate): string | undefined {
    const issuer = this.#kept.authorities.find(({ authority }) => {
      return (
        certificate.checkIssued(authority.certificate) && certificate.verify(authority.certificate.publicKey)
      )
    })
    return issuer?.authority.pin
  }

  serverContext(): ServerContext {
    return this.#context
  }

  /** Calls back after each change of the server context; gives the function that ends it. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Makes one more authority: trusted, issuing nothing. Gives its pin. */
  add(): Promise<RotationResult> {
    return this.#inTurn(async () => {
      const full = addPin(rotationOf(this.#kept), 'new')
      if (!full.ok) return full
      const made = await makeAuthority(this.#options.clock, this.#lifetimes.authorityMs)
      const authorities = [...this.#kept.authorities, made]
      return this.#change({ ...this.#kept, authorities }, made.authority.pin)
    })
  }

  /** Issues from this authority. The listeners go on showing the oldest. */
  switchTo(pin: string): Promise<RotationResult> {
    return this.#inTurn(() => this.#move(switchToPin(rotationOf(this.#kept), pin), pin))
  }

  /** Trusts this authority no more and forgets its key. The caller ends the connections it let in (`issuerOf`). */
  drop(pin: string): Promise<RotationResult> {
    return this.#inTurn(() => this.#move(dropPin(rotationOf(this.#kept), pin), pin))
  }

  /** Changes the names the coordinator is reached by. */
  setNames(names: readonly string[]): Promise<void> {
    return this.#inTurn(async () => {
      const sans = requireServerNames(names, hostname())
      if (!sameNames(sans, this.#leaf.sans)) await this.#replaceLeaf(this.#kept, sans)
      this.#names = names
    })
  }

  /** Makes the listeners' certificate anew if it is due. A timer does this too. */
  renewIfDue(): Promise<boolean> {
    return this.#inTurn(async () => {
      if (this.#options.clock.now() < this.#leaf.renewAt) return false
      await this.#replaceLeaf(this.#kept, requireServerNames(this.#names, hostname()))
      return true
    })
  }

  async #move(step: RotationStep, pin: string): Promise<RotationResult> {
    if (!step.ok) return step
    const { trusted, issuing } = step.rotation
    const authorities = this.#kept.authorities.filter(({ authority }) => trusted.includes(authority.pin))
    return this.#change({ issuing, authorities }, pin)
  }

  async #change(next: KeptAuthorities, pin: string): Promise<RotationResult> {
    // The new leaf first: once the file says that an authority is gone, the listeners must not show it any longer.
    const shown = shownPin(rotationOf(next))
    const leaf = shown === this.#leaf.shownPin ? this.#leaf : await this.#makeLeaf(next, this.#leaf.sans)
    await writeAuthorities(this.#directory, next)
    this.#publish(next, leaf)
    return { ok: true, pin }
  }

  async #replaceLeaf(kept: KeptAuthorities, sans: readonly SubjectAltName[]): Promise<void> {
    this.#publish(kept, await this.#makeLeaf(kept, sans))
  }

  #makeLeaf(kept: KeptAuthorities, sans: readonly SubjectAltName[]): Promise<ServerLeaf> {
    return leafFor(kept, sans, this.#options.clock, this.#lifetimes)
  }

  #publish(kept: KeptAuthorities, leaf: ServerLeaf): void {
    this.#kept = kept
    this.#leaf = leaf
    this.#context = contextOf(leaf, certificatesOf(kept))
    for (const listener of this.#listeners) listener()
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(() => {
      if (this.#stop.signal.aborted) throw new Error('the authorities are closed')
      return work()
    })
    this.#turn = result.catch(() => {}) // whoever asked hears of it; the next in turn does not care
    return result
  }

  async #renewInTime(): Promise<void> {
    const { signal } = this.#stop
    while (!signal.aborted) {
      const dueMs = this.#leaf.renewAt.getTime() - this.#options.clock.now().getTime()
      if (dueMs > 0) {
        await pause(Math.min(dueMs, LONGEST_WAIT_MS), signal)
        continue
      }
      try {
        await this.renewIfDue()
      } catch (error) {
        if (signal.aborted) return
        this.#options.onRenewalError?.(error)
        await pause(RETRY_MS, signal)
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort()
    await this.#turn
    await this.#renewing
    this.#listeners.clear()
  }
}

/** Opens the authorities of a folder; at the first start makes one. Throws when what is there cannot be used. */
export async function openAuthorities(directory: string, options: AuthoritiesOptions): Promise<Authorities> {
  const lifetimes = completeLifetimes(options.lifetimes ?? {})
  const sans = requireServerNames(options.names, hostname())
  let kept = await readAuthorities(directory)
  if (!kept) {
    if (options.mayCreate === false) {
      throw new Error(
        `${directory} holds no authority, though machines have enrolled: restore it from a backup`,
      )
    }
    const made = await makeAuthority(options.clock, lifetimes.authorityMs)
    kept = { issuing: made.authority.pin, authorities: [made] }
    await writeAuthorities(directory, kept)
  }
  const leaf = await leafFor(kept, sans, options.clock, lifetimes)
  return new Authorities(directory, options, kept, leaf)
}

function leafFor(
  kept: KeptAuthorities,
  sans: readonly SubjectAltName[],
  clock: Clock,
  { serverMs }: Lifetimes,
) {
  const authority = authorityOf(kept, shownPin(rotationOf(kept)))
  return makeServerLeaf({ authority, sans, lifetimeMs: serverMs, clock })
}

function rotationOf({ issuing, authorities }: KeptAuthorities): Rotation {
  return { issuing, trusted: authorities.map(({ authority }) => authority.pin) }
}

function authorityOf({ authorities }: KeptAuthorities, pin: string): Authority {
  const found = authorities.find(({ authority }) => authority.pin === pin)
  if (!found) throw new Error(`there is no authority ${pin}`)
  return found.authority
}

function certificatesOf({ authorities }: KeptAuthorities): string[] {
  return authorities.map(({ authority }) => authority.certificatePem)
}
