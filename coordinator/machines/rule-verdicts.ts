import type { Facts } from '../../shared/gen/muster/v1/facts_pb.ts'
import { type Compilation, compileExpression, select } from '../../shared/query/expression.ts'
import { factsToCel } from '../../shared/query/message-to-cel.ts'
import type { RuleVerdict } from '../enrolment/assign.ts'
import type { FleetTargets } from '../revisions/fleet-targets.ts'

/** The rules of a fleet's groups, compiled once for each revision. */
export interface GroupRules {
  /** The text of all rules: equal texts give equal verdicts on equal facts. */
  readonly fingerprint: string
  readonly rules: readonly { readonly group: string; readonly compiled: Compilation }[]
}

export function compileRules(targets: FleetTargets): GroupRules {
  const texts = [...targets.groups]
    .map(([group, target]) => ({ group, rule: target.binding?.rule ?? '' }))
    // Without a rule a group admits nobody and names nobody.
    .filter(({ rule }) => rule !== '')
    .toSorted((a, b) => (a.group < b.group ? -1 : 1))
  return {
    fingerprint: JSON.stringify(texts),
    rules: texts.map(({ group, rule }) => ({ group, compiled: compileExpression(rule) })),
  }
}

export const NO_VERDICTS: ReadonlyMap<string, RuleVerdict> = new Map()

/** What each group's rule says about these facts. A rule that cannot be decided is neither yes nor no. */
export function judgeRules({ rules }: GroupRules, facts: Facts): ReadonlyMap<string, RuleVerdict> {
  if (rules.length === 0) return NO_VERDICTS
  const variables = { facts: factsToCel(facts) }
  return new Map(
    rules.map(({ group, compiled }) => [
      group,
      compiled.kind === 'compiled'
        ? select(compiled.expression, variables)
        : { kind: 'error', reason: compiled.reason },
    ]),
  )
}
