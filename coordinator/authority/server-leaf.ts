import type { Clock } from '../../shared/clock.ts'
import type { Authority } from '../../shared/x509/authority.ts'
import { issueCertificate, type SubjectAltName } from '../../shared/x509/issue-certificate.ts'
import { keyId } from '../../shared/x509/key-id.ts'
import { generateMachineKey } from '../../shared/x509/machine-key.ts'
import { BACKDATE_MS, renewalTime } from './lifetimes.ts'

/** What the listeners show. */
export interface ServerLeaf {
  readonly privateKeyPem: string
  /** The listeners' certificate, then its authority's: machines know the authority by its pin only and take it from here. */
  readonly chainPem: string
  readonly shownPin: string
  readonly sans: readonly SubjectAltName[]
  readonly notAfter: Date
  readonly renewAt: Date
}

/** What a listener needs. One snapshot: key, chain and trusted authorities belong together. */
export interface ServerContext {
  readonly privateKeyPem: string
  /** The listeners' certificate, then its authority's. */
  readonly certChainPem: string
  /** Every authority whose clients are let in. Never empty: TLS would take that for the system's roots. */
  readonly clientCasPem: readonly string[]
  readonly notAfter: Date
}

export function contextOf(leaf: ServerLeaf, clientCasPem: readonly string[]): ServerContext {
  return {
    privateKeyPem: leaf.privateKeyPem,
    certChainPem: leaf.chainPem,
    clientCasPem,
    notAfter: leaf.notAfter,
  }
}

export interface ServerLeafInput {
  readonly authority: Authority
  readonly sans: readonly SubjectAltName[]
  readonly lifetimeMs: number
  readonly clock: Clock
}

/** Short-lived, so a key that makes handshakes cheap: with 3072 bits each would take twice the processor time. */
const BITS = 2048

/**
 * Makes a key and a certificate for the listeners. They live in memory only: machines pin the authority, so nothing
 * depends on a restarted coordinator having the same ones, and what is never written cannot be stolen or go stale.
 */
export async function makeServerLeaf({
  authority,
  sans,
  lifetimeMs,
  clock,
}: ServerLeafInput): Promise<ServerLeaf> {
  const { privateKeyPem, publicKeyDer } = await generateMachineKey(BITS)
  const now = clock.now()
  const { chainPem, notAfter } = issueCertificate({
    authority,
    subject: { kind: 'server', id: keyId(publicKeyDer) },
    publicKeyDer,
    // An expired authority still gets a leaf, as expired as itself: the coordinator must start for it to be replaced.
    notBefore: new Date(Math.min(now.getTime(), authority.notAfter.getTime()) - BACKDATE_MS),
    notAfter: new Date(now.getTime() + lifetimeMs),
    sans,
  })
  return {
    privateKeyPem,
    chainPem,
    shownPin: authority.pin,
    sans,
    notAfter,
    renewAt: renewalTime(now, notAfter),
  }
}
