import { PlanMode } from '../../shared/gen/muster/v1/plan_pb.ts'
import type { Safety } from '../../shared/revision/safety.ts'
import type { RebootReason } from '../plan/reboot-reasons.ts'
import type { TrialAnswer } from '../safety/can-try.ts'

export interface ModeQuestion {
  /** It runs, it is the boot default, and nothing was left half done. */
  readonly reached: boolean
  readonly reasons: readonly Pick<RebootReason, 'kind' | 'required'>[]
  readonly safety: Pick<Safety, 'reboot' | 'trial'>
  /** Whether it can be booted once while what runs stays the default. */
  readonly trial: TrialAnswer
  /** Whether this node may be rebooted for a change. */
  readonly mayReboot: boolean
}

export interface ModeChoice {
  readonly mode: PlanMode
  /** Why a reboot is needed and not made; empty otherwise. */
  readonly reason: string
}

/** How a system is reached, or why it is not. A reboot is made only where fleet file and node allow it and it can be tried. */
export function chooseMode({ reached, reasons, safety, trial, mayReboot }: ModeQuestion): ModeChoice {
  if (reached) return { mode: PlanMode.NOTHING, reason: '' }
  const required = reasons.filter(reason => reason.required)
  // Another systemd is put in place by a switch.
  const pending = reasons.filter(({ kind }) => kind !== 'systemd')
  const wanted =
    safety.reboot === 'whenever-changed'
      ? pending.length > 0
      : safety.reboot === 'required' && required.length > 0
  if (!wanted && required.length === 0) return { mode: PlanMode.SWITCH, reason: '' }
  const names = [...new Set((wanted ? pending : required).map(({ kind }) => kind))].join(', ')
  const no = (cure: string): ModeChoice => ({
    mode: PlanMode.REBOOT_REQUIRED,
    reason: `only a reboot reaches this system (${names}); ${cure}`,
  })
  if (!wanted) return no('the fleet file does not allow one (`reboot`)')
  if (!mayReboot) {
    // What merely waits for the next boot can be switched to all the same.
    return required.length > 0
      ? no('this node may not be rebooted (option `allow`)')
      : { mode: PlanMode.SWITCH, reason: '' }
  }
  if (trial.kind === 'can') return { mode: PlanMode.TRIAL_BOOT, reason: '' }
  if (safety.trial === 'none') return { mode: PlanMode.REBOOT, reason: '' }
  return required.length > 0
    ? no(`${trial.why}, and the fleet file does not say \`trial = "none"\``)
    : { mode: PlanMode.SWITCH, reason: '' }
}
