import { parse } from '@bufbuild/cel'
import { AGGREGATES } from './aggregate-names.ts'
import { childrenOf, tooDeep } from './expression-bounds.ts'

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
const MAX_CHARS = 4 * 1024
const MENTION = /\b(count|sum|min|max)\s*\(/

/** Whether a column is an aggregate over the machines of a group: a call of one of the names, outermost and alone. */
export function readAggregate(text: string): AggregateReading {
  // What no parser is to be given is refused by whoever compiles it.
  if (!MENTION.test(text) || text.length > MAX_CHARS || tooDeep(text) !== undefined) return { kind: 'none' }
  const calls = aggregateCalls(text)
  // What does not parse is told by whoever compiles the whole, with its place in that.
  if (calls === undefined || calls === 'none') return { kind: 'none' }
  const [, word, inner = ''] = CALL.exec(text) ?? []
  const name = AGGREGATES.find(known => known === word)
  if (calls !== 'outermost' || name === undefined) {
    const shown = name ?? MENTION.exec(text)?.[1] ?? 'sum'
    return {
      kind: 'refused',
      reason: `an aggregate stands alone: ${shown}(EXPR), as in sum(facts.cpu.cores)`,
    }
  }
  const argument = inner.trim()
  if (argument !== '') return { kind: 'aggregate', aggregate: { name, argument } }
  if (name === 'count') return { kind: 'aggregate', aggregate: { name, argument: undefined } }
  return { kind: 'refused', reason: `${name}() wants an expression, as in ${name}(facts.memory.total)` }
}

type Expr = ReturnType<typeof parse>['expr']

/** Where a text calls an aggregate; undefined: it does not parse. */
function aggregateCalls(text: string): 'none' | 'outermost' | 'within' | undefined {
  let root: Expr
  try {
    root = parse(text).expr
  } catch {
    return undefined
  }
  const nodes = root === undefined ? [] : [root]
  let found = 0
  for (const node of nodes) {
    if (isAggregateCall(node)) found++
    nodes.push(...childrenOf(node).filter(child => child !== undefined))
  }
  if (found === 0) return 'none'
  return found === 1 && root !== undefined && isAggregateCall(root) ? 'outermost' : 'within'
}

function isAggregateCall({ exprKind }: NonNullable<Expr>): boolean {
  if (exprKind.case !== 'callExpr') return false
  const { target, args, function: called } = exprKind.value
  return target === undefined && args.length <= 1 && AGGREGATES.some(name => name === called)
}
