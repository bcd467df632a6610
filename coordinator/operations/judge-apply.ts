import type { Assignment } from '../enrolment/assign.ts'

/** As much of a machine as it matters for ordering it to a revision. */
export interface ApplyCandidate {
  /** What the operator wrote, or the machine's id where a selector found it. */
  readonly ref: string
  readonly machine: string
  readonly state: string
  /** Why the machine is held; undefined: it is not. */
  readonly held: string | undefined
  readonly assignment: Assignment
  /** What the node says it may be ordered to do; empty: it has not said. */
  readonly allowed: readonly string[]
  /** Operations of the machine without an outcome. */
  readonly open: readonly { readonly id: string; readonly revision: number }[]
}

/** The revision asked for, as far as it decides who can take it. */
export interface ApplyTarget {
  readonly revision: number
  readonly expires: Date
  readonly hosts: ReadonlySet<string>
  readonly groups: ReadonlySet<string>
  /** Floor of the newest revision: nodes refuse what is below it. */
  readonly floor: number
}

export type ApplyDecision =
  | { readonly kind: 'order'; readonly machine: string; readonly host: string }
  /** The machine is already on its way there. */
  | { readonly kind: 'running'; readonly machine: string; readonly operation: string }

export type ApplyVerdict =
  | { readonly kind: 'ok'; readonly decisions: readonly ApplyDecision[] }
  | { readonly kind: 'refused'; readonly problems: readonly string[] }

/** Whether all of these machines may be ordered to a revision: all of them or none, with every problem named. */
export function judgeApply(
  target: ApplyTarget,
  candidates: readonly ApplyCandidate[],
  now: Date,
): ApplyVerdict {
  const problems: string[] = []
  if (target.expires <= now) {
    const at = target.expires.toISOString()
    problems.push(
      `revision ${target.revision} expired at ${at}; sign it anew with \`muster publish --renew\``,
    )
  }
  if (target.revision < target.floor) {
    problems.push(`revision ${target.revision} is below the fleet's floor ${target.floor}: nodes refuse it`)
  }
  const decisions: ApplyDecision[] = []
  const seen = new Set<string>()
  for (const candidate of candidates) {
    if (seen.has(candidate.machine)) continue
    seen.add(candidate.machine)
    const decision = judgeOne(target, candidate)
    if (typeof decision === 'string') problems.push(`${candidate.ref}: ${decision}`)
    else decisions.push(decision)
  }
  return problems.length > 0 ? { kind: 'refused', problems } : { kind: 'ok', decisions }
}

function judgeOne(target: ApplyTarget, candidate: ApplyCandidate): ApplyDecision | string {
  const { machine, state, held, assignment, allowed, open } = candidate
  if (state !== 'active') return `is ${state}, not active`
  if (held !== undefined) return `is held (${held}) until an operator looked at it and released it`
  if (assignment.kind === 'conflict') return `is in conflict: ${assignment.reason}`
  if (assignment.kind === 'none') return `is no host: ${assignment.reason}`
  const { host, group } = assignment
  const has = group === '' ? target.hosts.has(host) : target.groups.has(group)
  if (!has) {
    return `revision ${target.revision} has no target for ${group === '' ? `host ${host}` : `group ${group}`}`
  }
  if (allowed.length > 0 && !allowed.includes('apply')) return 'its own configuration forbids apply'
  const other = open.find(({ revision }) => revision !== target.revision)
  if (other) return `operation ${other.id} to revision ${other.revision} is not done yet`
  const [running] = open
  return running ? { kind: 'running', machine, operation: running.id } : { kind: 'order', machine, host }
}
