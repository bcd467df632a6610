import { parse } from '@bufbuild/cel'

export const AGGREGATES = ['count', 'sum', 'min', 'max'] as const
export type AggregateName = (typeof AGGREGATES)[number]

export interface Aggregate {
  readonly name: AggregateName
  /** What is counted or added up; undefined: machines are counted. */
  readonly argument: string | undefined
}

export type AggregateReading =
  | { readonly kind: 'aggregate'; readonly aggregate: Aggregate }
  /** It is an expression of one machine, or none at all: whoever compiles it says so. */
  | { readonly kind: 'none' }
  | { readonly kind: 'refused'; readonly reason: string }

const CALL = /^\s*(count|sum|min|max)\s*\(([\s\S]*)\)\s*$/

/** Whether a column is an aggregate over the machines of a group: a call of one of the names, outermost and alone. */
export function readAggregate(text: string): AggregateReading {
  const [, word, inner = ''] = CALL.exec(text) ?? []
  const name = AGGREGATES.find(known => known === word)
  if (name === undefined) return { kind: 'none' }
  if (!isOneCall(text, name)) {
    return { kind: 'refused', reason: `an aggregate stands alone: ${name}(EXPR), as in sum(facts.cpu.cores)` }
  }
  const argument = inner.trim()
  if (argument !== '') return { kind: 'aggregate', aggregate: { name, argument } }
  if (name === 'count') return { kind: 'aggregate', aggregate: { name, argument: undefined } }
  return { kind: 'refused', reason: `${name}() wants an expression, as in ${name}(facts.memory.total)` }
}

/** `sum(a) + max(b)` begins and ends like a call, too. */
function isOneCall(text: string, name: AggregateName): boolean {
  try {
    const node = parse(text).expr?.exprKind
    return (
      node?.case === 'callExpr' &&
      node.value.target === undefined &&
      node.value.function === name &&
      node.value.args.length <= 1
    )
  } catch {
    return true // its argument says better what is wrong
  }
}
