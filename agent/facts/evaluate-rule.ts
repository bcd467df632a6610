import type { Facts } from '../../shared/gen/muster/v1/facts_pb.ts'
import { compileExpression, select } from '../../shared/query/expression.ts'
import { factsToCel } from '../../shared/query/message-to-cel.ts'
import { hardwareClaim } from '../../shared/revision/hardware-of-facts.ts'

export interface RuleAnswer {
  /** The text that was evaluated. */
  readonly rule: string
  readonly kind: 'match' | 'no-match' | 'error'
  readonly reason: string
  /** What a name can be made of; what could not be read is missing. */
  readonly values: { readonly serial?: string; readonly uuid?: string; readonly mac?: string }
}

/** Evaluates a group's rule over this machine's facts. What the rule needs and the machine cannot read is an error. */
export function evaluateRule(rule: string, facts: Facts): RuleAnswer {
  const { serial, uuid, macs } = hardwareClaim(facts)
  const [mac = ''] = macs
  const values = { ...(serial && { serial }), ...(uuid && { uuid }), ...(mac && { mac }) }
  const compilation = compileExpression(rule)
  if (compilation.kind === 'refused') return { rule, kind: 'error', reason: compilation.reason, values }
  const selection = select(compilation.expression, { facts: factsToCel(facts) })
  switch (selection.kind) {
    case 'match':
      return { rule, kind: 'match', reason: 'the rule holds for the facts of this machine', values }
    case 'no-match':
      return { rule, kind: 'no-match', reason: 'the rule is false for the facts of this machine', values }
    case 'error':
      return { rule, kind: 'error', reason: selection.reason, values }
  }
}
