import { OutcomeClass, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import type { OperationState } from './fold.ts'

export interface Reached {
  readonly storePath: string
  /** What runs, and what the profile names; undefined or empty: cannot be read. */
  readonly current: string | undefined
  readonly profile: string | undefined
  /** The other operations of this node, in the order they were accepted. */
  readonly others: readonly OperationState[]
}

/**
 * Whether a system needs no change, because it runs and was made the boot default. That it runs is not enough: a switch or
 * a trial boot that failed, or was cut, may leave it running as well, and an unchanged target must then fail again or be
 * finished, not be called reached.
 */
export function alreadyReached({ storePath, current, profile, others }: Reached): boolean {
  if (current !== storePath || profile !== storePath) return false
  // One that touched nothing says nothing of what runs: that is told by the one before it.
  const last = others.findLast(other => wasBegun(other) && !touchedNothing(other, storePath))
  if (last === undefined) return true
  const { outcome } = last
  // One that went back ended by proving what runs.
  return (
    outcome !== undefined &&
    (GOOD.includes(outcome.class) || (BACK.includes(outcome.class) && outcome.runs === storePath))
  )
}

/** Whether the machine was to become another, by a switch or by a boot; a reboot that was ordered for itself has no round. */
function wasBegun({ round, phases }: OperationState): boolean {
  return round !== undefined && phases.some(({ phase }) => BEGUN.includes(phase))
}

/** Only what is known to have ended before it began ends its operation in this very phase. */
function touchedNothing({ outcome }: OperationState, storePath: string): boolean {
  return (
    outcome !== undefined &&
    BEGUN.includes(outcome.phase) &&
    UNTOUCHED.includes(outcome.class) &&
    outcome.runs === storePath
  )
}

const BEGUN: readonly Phase[] = [Phase.ACTIVATE, Phase.REBOOT]
const GOOD: readonly OutcomeClass[] = [OutcomeClass.SUCCEEDED, OutcomeClass.DEGRADED]
const BACK: readonly OutcomeClass[] = [OutcomeClass.ROLLED_BACK, OutcomeClass.UNCONFIRMED]
const UNTOUCHED: readonly OutcomeClass[] = [
  OutcomeClass.BUSY,
  OutcomeClass.REBOOT_REQUIRED,
  OutcomeClass.REFUSED,
  OutcomeClass.ACTIVATION_FAILED,
]
