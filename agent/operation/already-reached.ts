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
 * Whether a system needs no switch, because it runs and was made the boot default. That it runs is not enough: a switch
 * that failed in the middle, or was cut, also leaves it running, and an unchanged target must then fail again or be
 * finished, not be called reached.
 */
export function alreadyReached({ storePath, current, profile, others }: Reached): boolean {
  if (current !== storePath || profile !== storePath) return false
  const last = others.findLast(({ phases }) => phases.some(({ phase }) => phase === Phase.ACTIVATE))
  if (last === undefined) return true
  const { outcome } = last
  // One that went back ended by proving what runs.
  return (
    outcome !== undefined &&
    (GOOD.includes(outcome.class) || (BACK.includes(outcome.class) && outcome.runs === storePath))
  )
}

const GOOD: readonly OutcomeClass[] = [OutcomeClass.SUCCEEDED, OutcomeClass.DEGRADED]
const BACK: readonly OutcomeClass[] = [OutcomeClass.ROLLED_BACK, OutcomeClass.UNCONFIRMED]
