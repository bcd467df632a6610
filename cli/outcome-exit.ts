import { OutcomeClass } from '../shared/gen/muster/v1/operation_pb.ts'
import type { ExitName } from './exit-codes.ts'

type Kind = 'succeeded' | 'degraded' | 'rebootRequired' | 'refused' | 'failed' | 'unknown'

function kindOf(outcome: OutcomeClass): Kind {
  switch (outcome) {
    case OutcomeClass.SUCCEEDED:
      return 'succeeded'
    case OutcomeClass.DEGRADED:
      return 'degraded'
    case OutcomeClass.REBOOT_REQUIRED:
      return 'rebootRequired'
    case OutcomeClass.REFUSED:
    case OutcomeClass.BUSY:
      return 'refused'
    case OutcomeClass.FETCH_FAILED:
    case OutcomeClass.BUILD_FAILED:
    case OutcomeClass.ACTIVATION_FAILED:
    case OutcomeClass.UNCONFIRMED:
    case OutcomeClass.ROLLED_BACK:
    case OutcomeClass.ROLLBACK_FAILED:
      return 'failed'
    case OutcomeClass.UNSPECIFIED:
    case OutcomeClass.UNKNOWN:
      return 'unknown'
    default:
      return 'unknown' // a class that a newer coordinator knows
  }
}

/** Whether the node got where it was sent. */
export function isGood(outcome: OutcomeClass): boolean {
  const kind = kindOf(outcome)
  return kind === 'succeeded' || kind === 'degraded' || kind === 'rebootRequired'
}

/** The exit code for the outcomes of several operations. An outcome that is not known never counts as success. */
export function exitForOutcomes(outcomes: readonly OutcomeClass[]): ExitName {
  const kinds = new Set(outcomes.map(kindOf))
  const good = outcomes.filter(isGood).length
  if (good > 0 && good < outcomes.length) return 'partial'
  if (good === outcomes.length) {
    if (kinds.has('rebootRequired')) return 'rebootRequired'
    return kinds.has('degraded') ? 'degraded' : 'ok'
  }
  if (kinds.has('failed')) return 'failed'
  return kinds.has('unknown') ? 'unknown' : 'refused'
}
