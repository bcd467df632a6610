import { join } from 'node:path'
import { readFileIfThere, writeFileDurably } from '../../shared/durable-file.ts'
import { reasonOf } from '../../shared/errors.ts'
import type { Envelope } from '../../shared/gen/muster/v1/envelope_pb.ts'
import { type KnownTrust, readTrustSet } from '../../shared/trust/trust-set.ts'
import { type TrustWalk, walkTrust } from '../../shared/trust/walk-trust.ts'
import type { AgentStateFile } from '../state/agent-state.ts'
import { StateError } from '../state/state-error.ts'

const TRUST_FILE = 'trust.json'
const MAX_BYTES = 256 * 1024

interface Held {
  readonly trust: KnownTrust
  /** Taken without a pin and not yet confirmed by an operator. */
  readonly firstUse: boolean
}

/**
 * The trust set this machine goes by, in `trust.json`. INVARIANTS: it is on disk before anyone acts on it; by itself it
 * only goes up; a set that was held once may not be missing.
 */
export class TrustStore {
  readonly #path: string
  readonly #state: AgentStateFile
  #held: Held | undefined
  #last: Promise<unknown> = Promise.resolve()

  private constructor(path: string, state: AgentStateFile, held: Held | undefined) {
    this.#path = path
    this.#state = state
    this.#held = held
  }

  static async open(directory: string, state: AgentStateFile): Promise<TrustStore> {
    const path = join(directory, TRUST_FILE)
    let bytes: Buffer | undefined
    try {
      bytes = await readFileIfThere(path)
    } catch (error) {
      throw new StateError(`${path}: cannot be read: ${reasonOf(error)}`, { cause: error })
    }
    if (!bytes && state.current.hasTrust) {
      throw new StateError(
        `${path}: is missing, but this machine held a trust set. Put it back from a backup; or, to enrol as a new machine, remove the whole directory`,
      )
    }
    return new TrustStore(path, state, bytes && parseHeld(path, bytes))
  }

  get current(): KnownTrust | undefined {
    return this.#held?.trust
  }

  get firstUse(): boolean {
    return this.#held?.firstUse ?? false
  }

  /** What sessions and status tell of it. */
  report(): { readonly number: bigint; readonly digest: string; readonly firstUse: boolean } {
    const { trust, firstUse } = this.#held ?? {}
    return { number: BigInt(trust?.number ?? 0), digest: trust?.digest ?? '', firstUse: firstUse ?? false }
  }

  /** Looks at a chain without taking it: upward from what is known, or from the pin, or, with neither, at first use. */
  consider(chain: readonly Envelope[], trustPin: string | undefined): TrustWalk {
    if (this.#held) return walkTrust({ kind: 'current', trust: this.#held.trust }, chain)
    return walkTrust(trustPin === undefined ? { kind: 'first-use' } : { kind: 'pin', pin: trustPin }, chain)
  }

  /** Takes the result of `consider`; durable when it returns. Says whether anything changed. */
  take(walk: Extract<TrustWalk, { kind: 'ok' }>): Promise<boolean> {
    return this.#raise(walk.trust, walk.firstUse)
  }

  /** Takes a set that came with a verified manifest, signed by enough of the keys held here. */
  adopt(trust: KnownTrust): Promise<boolean> {
    return this.#raise(trust, false)
  }

  /** An operator confirmed the set with this digest. Says whether it was ours to confirm. */
  async confirm(digest: string): Promise<boolean> {
    return this.#serially(async () => {
      const held = this.#held
      if (!held?.firstUse || held.trust.digest !== digest) return false
      await this.#write({ trust: held.trust, firstUse: false })
      return true
    })
  }

  /**
   * Replaces the set by hand, whatever was held: for root on this machine, when the signing keys are lost. The chain must
   * be whole in itself.
   */
  async replace(chain: readonly Envelope[]): Promise<TrustWalk> {
    const walk = walkTrust({ kind: 'first-use' }, chain)
    if (walk.kind === 'ok') await this.#serially(() => this.#write({ trust: walk.trust, firstUse: false }))
    return walk
  }

  #raise(trust: KnownTrust, firstUse: boolean): Promise<boolean> {
    return this.#serially(async () => {
      const before = this.#held
      if (before && trust.number <= before.trust.number) return false
      // Successors of a set that nobody confirmed are as unconfirmed as it is.
      await this.#write({ trust, firstUse: before ? before.firstUse : firstUse })
      return true
    })
  }

  #serially<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work)
    this.#last = done.catch(() => {}) // told to who asked; the next starts from what is held
    return done
  }

  async #write(held: Held): Promise<void> {
    const { trust, firstUse } = held
    const record = {
      v: 1,
      number: trust.number,
      digest: trust.digest,
      firstUse,
      payload: Buffer.from(trust.payload).toString('base64'),
    }
    await writeFileDurably(this.#path, `${JSON.stringify(record)}\n`)
    this.#held = held
    if (!this.#state.current.hasTrust) await this.#state.update(state => ({ ...state, hasTrust: true }))
  }
}

function parseHeld(path: string, bytes: Buffer): Held {
  const damaged = (what: string): never => {
    throw new StateError(
      `${path}: is damaged (${what}). Put it back from a backup; or, to enrol as a new machine, remove the whole directory`,
    )
  }
  if (bytes.length > MAX_BYTES) return damaged(`${bytes.length} bytes`)
  let value: unknown
  try {
    value = JSON.parse(bytes.toString('utf8'))
  } catch (error) {
    return damaged(reasonOf(error))
  }
  const fields = new Map<string, unknown>(
    typeof value === 'object' && value !== null ? Object.entries(value) : [],
  )
  const payload = fields.get('payload')
  const firstUse = fields.get('firstUse')
  if (fields.get('v') !== 1 || typeof payload !== 'string' || typeof firstUse !== 'boolean') {
    return damaged('fields are missing')
  }
  const read = readTrustSet(Buffer.from(payload, 'base64'))
  if (read.kind === 'refused') return damaged(read.reason)
  if (read.trust.digest !== fields.get('digest')) return damaged('the digest does not match')
  return { trust: read.trust, firstUse }
}

/** The authorities a machine accepts: those its trust set lists, else the one it was given. */
export function trustedPins(trust: KnownTrust | undefined, caPin: string): readonly string[] {
  return trust && trust.set.caPins.length > 0 ? trust.set.caPins : [caPin]
}
