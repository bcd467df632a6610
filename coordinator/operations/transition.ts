import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'

/** How long after its expiry an order that reached a session is waited for: skew of clocks and a report on its way. */
export const SILENCE_MS = 10 * 60_000

/** As much of an operation as its next state depends on. */
export interface OperationState {
  /** Milliseconds, as all times here. */
  readonly expires: number
  readonly delivered: number | undefined
  /** Number of the newest phase the node reported; 0: it never said anything. */
  readonly phase: number
  /** Class of the outcome; 0: none yet. */
  readonly outcomeClass: number
  /** The order is not sent before; 0: at once. */
  readonly notBefore: number
  /** When the coordinator told the node that it sees it. */
  readonly confirmed: number | undefined
}

/** What the coordinator itself writes as the end of an operation that its node never spoke of. */
export interface GivenUp {
  readonly class: OutcomeClass
  readonly refusal: string
  readonly reason: string
}

export type OperationInput =
  | { readonly kind: 'clock' }
  /** The order was written to a live session. */
  | { readonly kind: 'delivered' }
  | { readonly kind: 'report'; readonly phase: number; readonly outcomeClass: number }
  /** The coordinator sees the machine after its activation, and says so. */
  | { readonly kind: 'confirmed' }
  /** Nobody will ever report: the machine was sent away, or lost its journal. */
  | { readonly kind: 'abandoned'; readonly reason: string }
  /** A newer order took the place of one that was not sent yet. */
  | { readonly kind: 'superseded'; readonly reason: string }

export type Transition =
  /** Nothing changes; `late` says that a node reported something that came after the end. */
  | { readonly kind: 'same'; readonly late: boolean }
  | { readonly kind: 'next'; readonly state: OperationState; readonly givenUp: GivenUp | undefined }

/**
 * The one place that says how an operation goes on. What has an outcome keeps it: nothing that comes later, and no
 * clock, changes it. The clock is looked at first, so an order that expired does so whatever arrives with it.
 */
export function transition(state: OperationState, input: OperationInput, now: number): Transition {
  if (state.outcomeClass !== 0) return { kind: 'same', late: input.kind === 'report' }
  const givenUp = giveUp(state, now)
  if (givenUp) {
    const ended = { ...state, outcomeClass: givenUp.class }
    return { kind: 'next', state: ended, givenUp }
  }
  switch (input.kind) {
    case 'clock':
      return { kind: 'same', late: false }
    case 'delivered':
      return state.delivered === undefined
        ? { kind: 'next', state: { ...state, delivered: now }, givenUp: undefined }
        : { kind: 'same', late: false }
    case 'confirmed': {
      if (state.confirmed !== undefined) return { kind: 'same', late: false }
      // Asking for it proves that the order arrived.
      const delivered = state.delivered ?? now
      return { kind: 'next', state: { ...state, delivered, confirmed: now }, givenUp: undefined }
    }
    case 'superseded': {
      if (state.delivered !== undefined || state.phase > 0) return { kind: 'same', late: false }
      const givenUp = { class: OutcomeClass.REFUSED, refusal: 'superseded', reason: input.reason }
      return { kind: 'next', state: { ...state, outcomeClass: givenUp.class }, givenUp }
    }
    case 'abandoned': {
      const givenUp = { class: OutcomeClass.UNKNOWN, refusal: '', reason: input.reason }
      return { kind: 'next', state: { ...state, outcomeClass: givenUp.class }, givenUp }
    }
    case 'report': {
      const phase = Math.max(state.phase, input.phase)
      if (phase === state.phase && input.outcomeClass === 0) return { kind: 'same', late: false }
      // A report proves that the order arrived, even when the record of its delivery was lost.
      const delivered = state.delivered ?? now
      return {
        kind: 'next',
        state: { ...state, delivered, phase, outcomeClass: input.outcomeClass },
        givenUp: undefined,
      }
    }
  }
}

/** Whether the order should be sent (again): its node has not spoken of it, and it may still begin. */
export function isPending(state: OperationState, now: number): boolean {
  return state.outcomeClass === 0 && state.phase === 0 && now >= state.notBefore && now < state.expires
}

function giveUp(state: OperationState, now: number): GivenUp | undefined {
  if (state.phase > 0) return undefined
  if (state.delivered === undefined) {
    return now < state.expires
      ? undefined
      : {
          class: OutcomeClass.REFUSED,
          refusal: 'expired',
          reason: 'the order expired before the machine was connected; order it again',
        }
  }
  return now < state.expires + SILENCE_MS
    ? undefined
    : {
        class: OutcomeClass.UNKNOWN,
        refusal: '',
        reason: 'the order was sent and the machine never spoke of it; its own journal knows more',
      }
}
