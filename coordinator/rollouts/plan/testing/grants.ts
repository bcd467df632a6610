import type { Grant, GrantEnd, StepKind } from '../rollout-record.ts'

/** A grant that is over, or with `undefined` under way. */
export function sampleGrant(
  step: StepKind,
  outcome: GrantEnd['outcome'] | undefined,
  atMs: number,
  change: Partial<Grant> = {},
): Grant {
  const end = outcome && { outcome, reason: outcome === 'failed' ? 'it broke' : '', atMs }
  return { id: 1, step, attempt: 1, grantedMs: atMs, operation: `${step}-1`, end, ...change }
}
