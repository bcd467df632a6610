import { backoffMs } from '../../shared/retry.ts'

/** How a session ended. */
export type SessionEnd =
  /** The agent stops. */
  | { readonly kind: 'stopped' }
  /** There is a new certificate or address: connect again at once, as the same instance. */
  | { readonly kind: 'renewed' }
  /** The coordinator takes this machine's certificate no more: evicted, banned, or expired. */
  | { readonly kind: 'denied'; readonly reason: string }
  /** Anything else: no connection, a coordinator that stopped, silence. */
  | { readonly kind: 'lost'; readonly reason: string; readonly welcomed: boolean }

/** The reason to abort a session's signal with when it is to end otherwise than by the agent's stop. */
export class SessionCut extends Error {
  override readonly name = 'SessionCut'
  readonly end: SessionEnd

  constructor(end: SessionEnd) {
    super(end.kind)
    this.end = end
  }
}

export interface NextStep {
  /** "enrol": ask the enrolment listener first, which also says why this machine is not taken. */
  readonly kind: 'stop' | 'connect' | 'enrol'
  readonly waitMs: number
  /** Try the next of the coordinator's addresses. */
  readonly nextAddress: boolean
  readonly why: string
}

/** After so many attempts in a row that never reached a welcome, the enrolment listener is asked: the certificate may be
 * unknown to a restored coordinator, or the fleet listener's address may have changed. */
const ASK_AGAIN_EVERY = 6

/** What to do after a session. `failures` counts the sessions in a row without a welcome, this one included. */
export function afterSession(
  end: SessionEnd,
  failures: number,
  retry: { readonly firstMs: number; readonly mostMs: number },
): NextStep {
  const step = { nextAddress: false }
  switch (end.kind) {
    case 'stopped':
      return { ...step, kind: 'stop', waitMs: 0, why: 'the agent stops' }
    case 'renewed':
      return { ...step, kind: 'connect', waitMs: 0, why: 'new certificate' }
    case 'denied':
      return { ...step, kind: 'enrol', waitMs: backoffMs(failures, retry), why: end.reason }
    case 'lost': {
      const ask = !end.welcomed && failures > 0 && failures % ASK_AGAIN_EVERY === 0
      return {
        ...step,
        kind: ask ? 'enrol' : 'connect',
        // A welcome resets the count, so a restarted coordinator is back soon, each machine at its own moment.
        waitMs: backoffMs(Math.max(0, failures - 1), retry),
        nextAddress: !end.welcomed,
        why: end.reason,
      }
    }
  }
}
