import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import type { Ending } from '../system/system.ts'

/** What was seen of one run of switch-to-configuration. */
export interface ActivationFacts {
  readonly ending: Ending
  /** Whether "activating the configuration..." was printed. */
  readonly activating: boolean
  /** Whether "Could not acquire lock" was printed. */
  readonly lockHeld: boolean
  /** What /run/current-system pointed to before and after; undefined: could not be read. */
  readonly currentBefore: string | undefined
  readonly currentAfter: string | undefined
  readonly target: string
}

export interface ActivationVerdict {
  readonly class: OutcomeClass
  readonly reason: string
}

/** Judges by facts together: the exit code alone is ambiguous for 0, 1, 2 and 11, and says nothing for 101 and signals. */
export function judgeActivation(facts: ActivationFacts): ActivationVerdict {
  const { ending, target, currentAfter } = facts
  const moved = currentAfter === target
  const now =
    currentAfter === undefined
      ? '/run/current-system cannot be read'
      : `/run/current-system is ${currentAfter}`
  const verdict = (outcome: OutcomeClass, reason: string) => ({ class: outcome, reason })
  if (ending.kind === 'not-found' || ending.kind === 'not-started') {
    return verdict(
      OutcomeClass.ACTIVATION_FAILED,
      'switch-to-configuration could not be started; nothing was touched',
    )
  }
  if (ending.kind !== 'exited') {
    const how = ending.kind === 'signalled' ? `killed by ${ending.signal}` : 'stopped before its end'
    return verdict(OutcomeClass.UNKNOWN, `the switch was ${how}; ${now}`)
  }
  switch (ending.exitCode) {
    case 0:
      return moved
        ? verdict(OutcomeClass.SUCCEEDED, `runs ${target}`)
        : verdict(
            OutcomeClass.ACTIVATION_FAILED,
            `the switch reported success, but ${now}; expected ${target}`,
          )
    case 1:
      return facts.activating
        ? verdict(OutcomeClass.ACTIVATION_FAILED, `the switch broke off in the middle (exit 1); ${now}`)
        : verdict(
            OutcomeClass.ACTIVATION_FAILED,
            'a check before the switch failed (exit 1); nothing was touched',
          )
    case 2:
      return facts.activating
        ? verdict(OutcomeClass.ACTIVATION_FAILED, `the activation script failed (exit 2); ${now}`)
        : verdict(
            OutcomeClass.ACTIVATION_FAILED,
            'the switch ended before it began (exit 2: no NixOS machine, or an incomplete system); nothing was touched',
          )
    case 4:
      return verdict(
        OutcomeClass.ACTIVATION_FAILED,
        moved
          ? 'units failed (exit 4): the new system runs, the boot default is still the old one'
          : `units failed (exit 4); ${now}`,
      )
    case 11:
      return facts.lockHeld && !facts.activating
        ? verdict(OutcomeClass.BUSY, 'another switch is running (lock held); nothing was touched')
        : verdict(OutcomeClass.ACTIVATION_FAILED, `the switch broke off in the middle (exit 11); ${now}`)
    case 100:
      if (facts.activating)
        return verdict(OutcomeClass.UNKNOWN, `the switch ended with 100 in the middle; ${now}`)
      return verdict(
        OutcomeClass.REBOOT_REQUIRED,
        'the init interface changed: this system can only be reached by a reboot (exit 100); nothing was touched',
      )
    default:
      return verdict(OutcomeClass.UNKNOWN, `the switch ended with ${ending.exitCode}; ${now}`)
  }
}
