import { Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import type { OperationState } from './fold.ts'

/** What root ordered on this machine is told from what a coordinator did by its id. */
export const LOCAL = 'local-'
export const isLocal = (id: string) => id.startsWith(LOCAL)

/** Phases in which nothing was touched, and all of which can be done again. */
const BEFORE_ARM: readonly Phase[] = [
  Phase.VERIFY,
  Phase.PREFLIGHT,
  Phase.FETCH,
  Phase.BUILD,
  Phase.PLAN,
  Phase.DRAIN,
]

type Begun = Pick<OperationState, 'phases' | 'round' | 'kubernetes' | 'reboot'>
type Waiting = Begun & { readonly order: Pick<OperationState['order'], 'operationId'> }

/** Whether the machine is, or may be, in the middle of it. */
function isUnderWay({ phases, round, kubernetes, reboot }: Begun): boolean {
  if (round !== undefined || kubernetes !== undefined || reboot !== undefined) return true
  const last = phases.at(-1)?.phase
  return last !== undefined && !BEFORE_ARM.includes(last)
}

/**
 * Which of the operations that wait, in the order they were accepted, comes next: what the machine is in the middle of, then what
 * root ordered here, then what a coordinator did. Undefined: none waits.
 */
export function nextTurn(waiting: readonly Waiting[]): string | undefined {
  const next =
    waiting.find(isUnderWay) ?? waiting.find(({ order }) => isLocal(order.operationId)) ?? waiting[0]
  return next?.order.operationId
}

/**
 * Whether what runs is broken off for what waits: a coordinator's order, which may well wait for that very coordinator, for root's. It is begun
 * again after it.
 */
export function givesWay(running: Waiting, waiting: readonly Waiting[]): boolean {
  if (isLocal(running.order.operationId) || isUnderWay(running)) return false
  return waiting.some(({ order }) => isLocal(order.operationId))
}
