import { randomInt } from 'node:crypto'
import type { Clock } from '../../shared/clock.ts'
import { reasonOf } from '../../shared/errors.ts'
import { pause } from '../../shared/lifecycle.ts'
import { backoffMs } from '../../shared/retry.ts'
import { type CertificateStore, judgeCertificate } from '../identity/certificate-store.ts'
import type { MachineIdentity } from '../identity/machine-identity.ts'
import type { Log } from '../log.ts'
import type { FleetLink } from './fleet-link.ts'

export interface RenewalDeps {
  readonly link: FleetLink
  readonly identity: MachineIdentity
  readonly certificates: CertificateStore
  readonly clock: Clock
  readonly retry: { readonly firstMs: number; readonly mostMs: number; readonly connectMs: number }
  readonly log: Log
  /** Called once a new certificate is on disk. */
  readonly onRenewed: () => void
  /** Called while the certificate has run out. */
  readonly onExpired: () => void
}

/** The longest sleep: a clock that jumps is noticed within this. */
const LOOK_EVERY_MS = 60_000

/** Renews the certificate while it is good. One that has run out is a matter for the enrolment listener. */
export async function keepRenewed(deps: RenewalDeps, signal: AbortSignal): Promise<void> {
  const { certificates, clock, retry, log } = deps
  let spread = randomSpread()
  let failures = 0
  while (!signal.aborted) {
    const verdict = judgeCertificate(certificates.current, clock.now(), spread)
    if (verdict.kind !== 'good') {
      if (verdict.kind === 'expired') deps.onExpired()
      await pause(Math.min(LOOK_EVERY_MS, retry.firstMs * 4), signal)
      continue
    }
    const leftMs = verdict.renewAt.getTime() - clock.now().getTime()
    if (leftMs > 0) {
      await pause(Math.min(leftMs, LOOK_EVERY_MS), signal)
      continue
    }
    try {
      await renewOnce(deps, signal)
      failures = 0
      spread = randomSpread()
      log.info({ notAfter: certificates.current?.notAfter }, 'certificate renewed')
      deps.onRenewed()
    } catch (error) {
      if (signal.aborted) return
      log.warn({ err: reasonOf(error), failures }, 'certificate could not be renewed')
    }
    // Also after a success: a certificate with hardly any life must not make a machine renew without a pause.
    await pause(backoffMs(failures++, retry), signal)
  }
}

/** Asks over a connection of its own, so that a session in use is not disturbed. */
async function renewOnce(
  { link, identity, certificates, clock, retry }: RenewalDeps,
  signal: AbortSignal,
): Promise<void> {
  using client = link.open()
  const { chainPem } = await client.renew(
    { publicKey: identity.publicKeyDer },
    { signal, deadlineMs: retry.connectMs },
  )
  await certificates.keep(chainPem, clock.now())
}

function randomSpread(): number {
  return randomInt(-1000, 1001) / 1000
}
