import { X509Certificate } from 'node:crypto'
import { rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { readFileIfThere, writeFileDurably } from '../../shared/durable-file.ts'
import { reasonOf } from '../../shared/errors.ts'
import { readPeerIdentity } from '../../shared/x509/peer-identity.ts'
import { splitCertificates } from '../../shared/x509/pem.ts'
import { StateError } from '../state/state-error.ts'

/** The certificate this machine was given, with its chain. */
export interface HeldCertificate {
  readonly chainPem: string
  readonly notBefore: Date
  readonly notAfter: Date
  /** When it came: certificates are backdated, so half of a short one's life may lie before this. */
  readonly obtained: Date
}

const FILE = 'certificate.pem'
/** A chain is written down as it comes. */
const MAX_CHAIN_CHARS = 64 * 1024

/** The file `certificate.pem`. INVARIANT: what `current` says is on disk and belongs to this machine's key. */
export class CertificateStore {
  readonly #path: string
  readonly #machine: string
  #current: HeldCertificate | undefined

  private constructor(path: string, machine: string, current: HeldCertificate | undefined) {
    this.#path = path
    this.#machine = machine
    this.#current = current
  }

  static async open(directory: string, machine: string): Promise<CertificateStore> {
    const path = join(directory, FILE)
    try {
      const pem = await readFileIfThere(path)
      const obtained = pem && (await stat(path)).mtime
      return new CertificateStore(
        path,
        machine,
        pem && readHeld(pem.toString('utf8'), machine, obtained ?? new Date()),
      )
    } catch (error) {
      throw new StateError(
        `${path}: ${reasonOf(error)}. Remove this one file: the machine then asks for a new certificate with its key`,
        { cause: error },
      )
    }
  }

  get current(): HeldCertificate | undefined {
    return this.#current
  }

  /** Keeps a certificate, durably. Throws, and keeps the old one, when it is not for this machine's key. */
  async keep(chainPem: string, now: Date): Promise<HeldCertificate> {
    const held = readHeld(chainPem, this.#machine, now)
    await writeFileDurably(this.#path, chainPem, 0o600)
    this.#current = held
    return held
  }

  /** Forgets a certificate that is not taken any more. */
  async drop(): Promise<void> {
    await rm(this.#path, { force: true })
    this.#current = undefined
  }
}

function readHeld(chainPem: string, machine: string, obtained: Date): HeldCertificate {
  if (chainPem.length > MAX_CHAIN_CHARS) throw new Error('holds more than a chain of certificates')
  const [leaf] = splitCertificates(chainPem, 4)
  if (leaf === undefined) throw new Error('holds no certificate')
  const reading = readPeerIdentity(new X509Certificate(leaf))
  if (!reading.ok) throw new Error(`holds a certificate that cannot be used: ${reading.reason}`)
  const { kind, id, notBefore, notAfter } = reading.identity
  if (kind !== 'machine' || id !== machine) {
    throw new Error(`holds a certificate for the ${kind} ${id}, this is the machine ${machine}`)
  }
  return { chainPem, notBefore, notAfter, obtained }
}

export type CertificateVerdict =
  | { readonly kind: 'none' }
  | { readonly kind: 'expired' }
  /** By this machine's clock it does not count yet. */
  | { readonly kind: 'early' }
  | { readonly kind: 'good'; readonly renewAt: Date }

/** Two thirds of what was left of its life when it came. */
const RENEW_SHARE = 2 / 3
const SPREAD_SHARE = 0.1

/**
 * Whether a certificate serves now, and when to renew it. `spread` is from -1 to 1, one number for each certificate, so
 * that a fleet enrolled in one hour does not renew in one hour.
 */
export function judgeCertificate(
  held: HeldCertificate | undefined,
  now: Date,
  spread: number,
): CertificateVerdict {
  if (!held) return { kind: 'none' }
  // Written so that a date which cannot be read is no good certificate.
  if (!(now.getTime() < held.notAfter.getTime())) return { kind: 'expired' }
  if (!(now.getTime() >= held.notBefore.getTime())) return { kind: 'early' }
  const came = held.obtained.getTime()
  const inside = came >= held.notBefore.getTime() && came < held.notAfter.getTime()
  const start = inside ? came : held.notBefore.getTime()
  const life = held.notAfter.getTime() - start
  return { kind: 'good', renewAt: new Date(start + life * (RENEW_SHARE + SPREAD_SHARE * spread)) }
}
