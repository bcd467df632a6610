import { reasonOf } from '../../shared/errors.ts'
import { pause } from '../../shared/lifecycle.ts'
import { type CertificateStore, judgeCertificate } from '../identity/certificate-store.ts'
import { enrolOnce } from '../identity/enrol.ts'
import { type EnrolmentDeps, enrolUntilAdmitted } from '../identity/enrolment.ts'
import { keepRenewed } from './renewal.ts'
import { runSession, type SessionDeps } from './run-session.ts'
import { afterSession, SessionCut, type SessionEnd } from './session-end.ts'

export interface ConnectionDeps extends SessionDeps {
  readonly enrolment: EnrolmentDeps
  readonly certificates: CertificateStore
  readonly retry: { readonly firstMs: number; readonly mostMs: number; readonly connectMs: number }
  /** Hands out the way to have the session opened anew, for when something that it rests on was changed. */
  readonly onReopen: (reopen: () => void) => void
  /** Of this start: by it the coordinator tells an agent that comes back from another holder of its key. */
  readonly instance: () => string
}

/**
 * Keeps this machine enrolled and connected until the signal fires. INVARIANTS: one session at a time; a session is
 * opened only with a certificate that is good by this machine's clock; every way back leads through a pause with
 * jitter, except after a renewal.
 */
export async function keepConnected(deps: ConnectionDeps, signal: AbortSignal): Promise<void> {
  const { certificates, clock, link, board, log, retry, enrolment } = deps
  let cut = new AbortController()
  const reopen = () => cut.abort(new SessionCut({ kind: 'renewed' }))
  deps.onReopen(reopen)
  const renewal = keepRenewed(
    {
      link,
      identity: enrolment.directory.identity,
      certificates,
      clock,
      retry,
      log,
      onRenewed: reopen,
      // A session lives on with a certificate that has run out; the loop below gets a new one.
      onExpired: reopen,
    },
    signal,
  )
  let failures = 0
  let lastReason = ''
  while (!signal.aborted) {
    const verdict = judgeCertificate(certificates.current, clock.now(), 0)
    if (verdict.kind !== 'good') {
      if (verdict.kind !== 'none') log.warn({ certificate: verdict.kind }, 'certificate does not serve')
      await enrolUntilAdmitted(enrolment, signal)
      continue
    }
    board.set('connecting', lastReason, link.address)
    cut = new AbortController()
    const end = await connectOnce(deps, cut, signal)
    failures = end.kind === 'lost' && !end.welcomed ? failures + 1 : end.kind === 'denied' ? failures + 1 : 0
    const step = afterSession(end, failures, retry)
    if (step.kind === 'stop') break
    lastReason = step.why
    log.info({ end: end.kind, why: step.why, waitMs: step.waitMs, failures }, 'session ended')
    board.set(end.kind === 'denied' ? 'refused' : 'connecting', step.why, link.address)
    const seen = step.nextAddress ? await lookAround(deps, signal) : undefined
    if (seen?.reason !== undefined) {
      lastReason = seen.reason
      board.set('connecting', seen.reason, link.address)
    }
    if (step.nextAddress && !seen?.learnt) link.nextAddress()
    if (!seen?.learnt) await pause(step.waitMs, signal)
    if (step.kind !== 'enrol' || signal.aborted) continue
    if (end.kind === 'denied') await enrolUntilAdmitted(enrolment, signal)
    else await askOnce(deps, signal)
  }
  await renewal
}

async function connectOnce(
  deps: ConnectionDeps,
  cut: AbortController,
  signal: AbortSignal,
): Promise<SessionEnd> {
  const stop = () => cut.abort(signal.reason)
  if (signal.aborted) stop()
  signal.addEventListener('abort', stop, { once: true })
  try {
    return await runSession(deps, deps.instance(), cut.signal)
  } catch (error) {
    deps.log.warn({ err: reasonOf(error) }, 'session could not be opened')
    return { kind: 'lost', reason: reasonOf(error), welcomed: false }
  } finally {
    signal.removeEventListener('abort', stop)
  }
}

/** Looks at who answers, after a session that never came to be: for a new authority, and to say what is wrong. */
async function lookAround(
  { link, log }: ConnectionDeps,
  signal: AbortSignal,
): Promise<{ readonly learnt: boolean; readonly reason?: string }> {
  let proof: Awaited<ReturnType<typeof link.inspect>>
  try {
    proof = await link.inspect(signal)
  } catch (error) {
    // Such as a full disk, on which a new authority cannot be kept; it is looked at again after the next attempt.
    log.error({ err: error }, 'coordinator could not be looked at')
    return { learnt: false, reason: reasonOf(error) }
  }
  if (proof.ok) {
    if (proof.learnt) log.info({ pin: proof.pin }, 'new authority of the coordinator accepted')
    return { learnt: proof.learnt }
  }
  if (proof.fault === 'unreachable') return { learnt: false, reason: proof.reason }
  log.warn({ fault: proof.fault, reason: proof.reason }, 'coordinator could not be proved')
  return { learnt: false, reason: `${proof.fault}: ${proof.reason}` }
}

/** One attempt at the enrolment listener, beside a certificate that should still serve. */
async function askOnce({ enrolment, log }: ConnectionDeps, signal: AbortSignal): Promise<void> {
  const outcome = await enrolOnce(enrolment, undefined, signal)
  log.info({ ...outcome }, 'enrolment listener asked')
}
