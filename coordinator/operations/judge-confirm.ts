import type { OperationState } from './transition.ts'
import { transition } from './transition.ts'

/** As much of an operation as it matters for confirming it. */
export interface ConfirmedOperation {
  readonly machine: string
  readonly state: OperationState
  /** The agent that was first seen to arm or to activate; empty: none was. */
  readonly activatedBy: string
  /** Store path it was to reach, as its plan says; empty: not known here. */
  readonly target: string
}

/** The session of the machine that is acted on. */
export interface ConfirmingSession {
  readonly instance: string
  readonly bootId: string
  /** Another holder of the key is connected. */
  readonly disputed: boolean
}

export interface ConfirmQuestion {
  /** By the certificate. */
  readonly machine: string
  readonly instance: string
  readonly bootId: string
  readonly storePath: string
  /** Undefined: it is not known here. */
  readonly operation: ConfirmedOperation | undefined
  readonly machineState: string
  /** Why nothing of the machine is acted on; undefined: nothing is in the way. */
  readonly held: string | undefined
  /** Undefined: it has none. */
  readonly session: ConfirmingSession | undefined
}

export type ConfirmVerdict =
  | { readonly kind: 'confirm' }
  /** It was told so before; the answer is the same. */
  | { readonly kind: 'confirmed' }
  /** `foreign`: a machine asks for what is another's. */
  | { readonly kind: 'refused'; readonly foreign: boolean; readonly reason: string }

/**
 * Whether the coordinator, too, sees a machine after its activation: by the newest session of another agent process than
 * the one that activated. What has ended is never confirmed, however late the question comes.
 */
export function judgeConfirm(question: ConfirmQuestion, now: number): ConfirmVerdict {
  const { machine, operation, session, held } = question
  if (!operation) return refuse('this coordinator knows no such operation; report it first')
  if (operation.machine !== machine) {
    return { kind: 'refused', foreign: true, reason: 'the operation is another machine’s' }
  }
  if (question.machineState !== 'active') return refuse(`the machine is ${question.machineState}, not active`)
  if (held !== undefined) return refuse(`the machine is held (${held}) until an operator looked at it`)
  const moved = transition(operation.state, { kind: 'confirmed' }, now)
  if (operation.state.outcomeClass !== 0 || (moved.kind === 'next' && moved.state.outcomeClass !== 0)) {
    return refuse('the operation has ended here; what is over is not confirmed')
  }
  if (!session) return refuse('the machine has no session; open one first')
  if (session.disputed) return refuse('another holder of this key is connected')
  if (session.instance !== question.instance) return refuse('the newest session is another agent’s')
  if (session.bootId !== question.bootId) return refuse('the session was opened in another boot')
  if (operation.activatedBy !== '' && operation.activatedBy === question.instance) {
    return refuse('the agent that activated does not confirm itself; a new process must')
  }
  if (operation.target !== '' && question.storePath !== operation.target) {
    return refuse(
      `${question.storePath || 'an unknown system'} runs, the operation was to reach ${operation.target}`,
    )
  }
  return moved.kind === 'same' ? { kind: 'confirmed' } : { kind: 'confirm' }
}

function refuse(reason: string): ConfirmVerdict {
  return { kind: 'refused', foreign: false, reason }
}
