import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import type { SwitchSeen } from './switch-unit.ts'

/** What is known of one run of the switch program, and of the machine around it. */
export interface SwitchFacts {
  readonly seen: SwitchSeen
  readonly target: string
  /** What /run/current-system pointed to before. */
  readonly currentBefore: string | undefined
  /** Failed units; undefined: could not be asked. */
  readonly failedBefore: ReadonlySet<string> | undefined
  readonly failedAfter: ReadonlySet<string> | undefined
  /** Units that may fail. */
  readonly tolerated: readonly string[]
}

export type SwitchVerdict =
  /** The new system runs; `degraded` names tolerated units that have failed. */
  | { readonly kind: 'good'; readonly degraded: readonly string[]; readonly reason: string }
  /** It failed before anything of the machine was changed: there is nothing to take back. */
  | Failure<'untouched'>
  /** It failed, and the machine is, or may be, half changed. */
  | Failure<'touched'>

interface Failure<K> {
  readonly kind: K
  readonly class: OutcomeClass
  /** Class of a refusal; empty for anything else. */
  readonly refusal: string
  readonly reason: string
  readonly exitCode: number | undefined
}

/**
 * Judges by facts together: marks, exit code, /run/current-system, the program's lines, lists it left, failed units. The exit code alone
 * is ambiguous for 0, 1, 2, 4 and 11, and says nothing for 101 and for signals. What is not surely untouched is touched.
 */
export function judgeSwitch(facts: SwitchFacts): SwitchVerdict {
  const { seen, target, currentBefore } = facts
  const { end, currentAfter } = seen
  const exitCode = end?.code === 'exited' && /^\d+$/.test(end.status) ? Number(end.status) : undefined
  const now =
    currentAfter === undefined
      ? '/run/current-system cannot be read'
      : `/run/current-system is ${currentAfter}`
  const activating = seen.lines.some(line => line.includes('activating the configuration...'))
  const begun = activating || seen.opening || currentAfter === undefined || currentAfter !== currentBefore
  const touched = (kind: OutcomeClass, reason: string): SwitchVerdict => ({
    kind: 'touched',
    class: kind,
    refusal: '',
    reason,
    exitCode,
  })
  const untouched = (kind: OutcomeClass, reason: string, refusal = ''): SwitchVerdict => ({
    kind: 'untouched',
    class: kind,
    refusal,
    reason: `${reason}; nothing was touched`,
    exitCode,
  })
  // Lists are written while planning and taken away phase by phase: with them it came at least so far, and whether it
  // stopped units after that cannot be told.
  const planned = begun || seen.listsLeft
  /** The service manager did not come as far as the program: the system is not to blame. */
  const notStarted = (why: string): SwitchVerdict =>
    untouched(OutcomeClass.REFUSED, `the switch could not be started${why}`, 'not-started')
  /** For an ending that comes before anything is touched as well as in the middle. */
  const eitherWay = (before: string, middle: string, reached = planned): SwitchVerdict =>
    reached
      ? touched(OutcomeClass.ACTIVATION_FAILED, `${middle}; ${now}`)
      : untouched(OutcomeClass.ACTIVATION_FAILED, before)

  if (seen.overdue !== undefined) {
    const left = seen.alive === undefined ? '' : `; ${seen.alive}`
    return touched(
      OutcomeClass.ACTIVATION_FAILED,
      `the switch did not end in its time, ${seen.overdue}${left}; ${now}`,
    )
  }
  if (!end) {
    return seen.began || begun
      ? touched(OutcomeClass.UNKNOWN, `the switch is gone without a word of how it ended; ${now}`)
      : notStarted('')
  }
  if (exitCode === undefined) {
    if (end.code === '' && !begun) return notStarted(` (${end.result})`)
    return touched(OutcomeClass.UNKNOWN, `the switch was ended by ${end.status || end.result}; ${now}`)
  }
  const moved = currentAfter === target
  switch (exitCode) {
    case 0:
    case 4:
      if (!moved) {
        return touched(
          OutcomeClass.ACTIVATION_FAILED,
          `the switch ended with ${exitCode}, but ${now}; expected ${target}`,
        )
      }
      if (seen.listsLeft && !seen.closing) {
        const reason = `the switch ended with ${exitCode}, but left lists of units it had still to start or restart`
        return touched(OutcomeClass.UNKNOWN, `${reason}; ${now}`)
      }
      return judgeUnits(facts, exitCode, touched)
    case 1:
      if (!begun && seen.lines.some(line => line.includes("Pre-switch check 'switchInhibitors' failed"))) {
        return untouched(
          OutcomeClass.REBOOT_REQUIRED,
          'critical components change (switch inhibitors): this system can only be reached by a reboot',
        )
      }
      return eitherWay(
        `a check before the switch failed (exit 1${said(seen.lines)})`,
        `the switch broke off in the middle (exit 1${said(seen.lines)})`,
      )
    case 2:
      return eitherWay(
        'the switch ended before it began (exit 2: no NixOS machine, or an incomplete system)',
        'the activation script failed (exit 2)',
        // A system without systemd ends it while planning, without a word: the activation always speaks first.
        begun,
      )
    case 11:
      if (!begun && seen.lines.some(line => line.includes('Could not acquire lock'))) {
        return untouched(OutcomeClass.BUSY, 'another switch is running (lock held)')
      }
      return eitherWay(
        'the switch ended before it began (exit 11)',
        'the switch broke off in the middle (exit 11: logind could not be asked?)',
      )
    case 100:
      return begun
        ? touched(OutcomeClass.UNKNOWN, `the switch ended with 100 in the middle; ${now}`)
        : untouched(
            OutcomeClass.REBOOT_REQUIRED,
            'the init interface changed: this system can only be reached by a reboot (exit 100)',
          )
    default:
      return touched(OutcomeClass.UNKNOWN, `the switch ended with ${exitCode}; ${now}`)
  }
}

/** The new system runs: whose failed units are they? */
function judgeUnits(
  { seen, target, failedBefore, failedAfter, tolerated }: SwitchFacts,
  exitCode: number,
  touched: (kind: OutcomeClass, reason: string) => SwitchVerdict,
): SwitchVerdict {
  if (failedBefore === undefined || failedAfter === undefined) {
    return touched(OutcomeClass.UNKNOWN, 'which units have failed cannot be asked')
  }
  const named = exitCode === 4 ? blamedUnits(seen.lines) : []
  const suspects = new Set([...failedAfter, ...named])
  // An old broken unit is not blamed on a change that merely tried it again.
  const fresh = [...suspects].filter(unit => !failedBefore.has(unit)).toSorted()
  const bad = fresh.filter(unit => !tolerated.includes(unit))
  if (bad.length > 0) {
    return touched(
      OutcomeClass.ACTIVATION_FAILED,
      `units failed (exit ${exitCode}): ${bad.slice(0, 20).join(', ')}`,
    )
  }
  if (exitCode === 4 && suspects.size === 0) {
    return touched(OutcomeClass.ACTIVATION_FAILED, 'the switch ended with 4 and named no unit')
  }
  const old = [...suspects].filter(unit => failedBefore.has(unit)).toSorted()
  const notes = [
    ...(fresh.length > 0 ? [`tolerated: ${fresh.join(', ')} failed`] : []),
    ...(old.length > 0 ? [`failed before as well: ${old.slice(0, 20).join(', ')}`] : []),
  ]
  return { kind: 'good', degraded: fresh, reason: [`runs ${target}`, ...notes].join('; ') }
}

/**
 * What the name of a user stands for whose own activation failed, in what may fail as in what is told: systemd names the units of users by
 * number, so that none is called so.
 */
const activationOf = (user: string) => `user@${user}.service`

/** Units that the program itself named as failed, and users whose own activation did. */
export function blamedUnits(lines: readonly string[]): readonly string[] {
  const found = new Set<string>()
  for (const line of lines) {
    const list = /^warning: the following units failed: (.+)$/.exec(line.trim())?.[1]
    for (const unit of list?.split(/,\s*/) ?? []) found.add(unit.trim())
    const job = /^Failed to (?:start|restart|reload|stop) ([^\s:]+)/.exec(line.trim())?.[1]
    if (job !== undefined) found.add(job.replace(/\.$/, ''))
    const user = /^warning: user activation for (\S+) failed/.exec(line.trim())?.[1]
    if (user !== undefined) found.add(activationOf(user))
  }
  return [...found]
}

/** The last thing the program said that looks like a reason. */
function said(lines: readonly string[]): string {
  const line = lines.findLast(text => /fail|error|cannot|could not|not found/i.test(text))
  return line === undefined ? '' : `: ${line.trim().slice(0, 300)}`
}
