import type { parse } from '@bufbuild/cel'
import { callProblem } from './check-call.ts'

export type Expr = NonNullable<ReturnType<typeof parse>['expr']>

/** Functions that count the rounds of loops. No text can call them: `@` is not part of a CEL name. */
export const METER = '@meter'
export const RANGE_METER = '@range'

/** Gives what it is given. */
export const VALUE_OF = '@value'

const MAX_BRACKETS = 32
const MAX_DEPTH = 200
const MAX_LOOP_DEPTH = 2
const MAX_LOOPS = 32
/** Names that stand for types and packages in CEL itself. */
const CEL_NAMES = [
  'bool',
  'bytes',
  'double',
  'dyn',
  'duration',
  'google',
  'int',
  'list',
  'map',
  'null_type',
  'string',
  'timestamp',
  'type',
  'uint',
]

/** Why a text nests its brackets too deeply for the parser, or undefined. Looks at the text only. */
export function tooDeep(text: string): string | undefined {
  let depth = 0
  let quote: string | undefined
  for (let i = 0; i < text.length; i++) {
    const char = text.charAt(i)
    if (quote !== undefined) {
      if (char === '\\') i += 1
      else if (char === quote) quote = undefined
    } else if (char === '"' || char === "'") quote = char
    else if (char === '(' || char === '[' || char === '{') {
      depth += 1
      if (depth > MAX_BRACKETS) return `brackets are nested deeper than ${MAX_BRACKETS}`
    } else if (char === ')' || char === ']' || char === '}') depth -= 1
  }
  return undefined
}

/** What is wrong with an expression, and which part of it. */
export interface ExpressionProblem {
  readonly reason: string
  readonly node: Expr
}

export type Bounds =
  | { readonly kind: 'within'; readonly used: ReadonlySet<string> }
  | ({ readonly kind: 'refused' } & ExpressionProblem)

/**
 * Checks depth, loops within loops and that all names and functions exist; tells which variables the expression uses. Of names that
 * are known `elsewhere` it is said where.
 */
export function checkBounds(
  expr: Expr | undefined,
  variables: readonly string[],
  elsewhere: Readonly<Record<string, string>> = {},
): Bounds {
  const used = new Set<string>()
  const todo = [{ expr, depth: 1, loops: 0, names: new Set([...variables, ...CEL_NAMES]) }]
  let loopCount = 0
  for (let item = todo.pop(); item !== undefined; item = todo.pop()) {
    const { expr: node, depth, loops, names } = item
    if (node === undefined) continue
    const refused = (reason: string): Bounds => ({ kind: 'refused', reason, node })
    if (depth > MAX_DEPTH) return refused(`the expression is nested deeper than ${MAX_DEPTH}`)
    if (node.exprKind.case === 'identExpr') {
      const name = node.exprKind.value.name.replace(/^\./, '')
      if (!names.has(name)) {
        const why = elsewhere[name] ?? 'no such variable'
        return refused(`${name}: ${why}; there are ${variables.join(', ')}`)
      }
      used.add(name)
    }
    if (node.exprKind.case === 'callExpr') {
      // Before what it is given: a misspelt loop leaves its own variable unknown.
      const { function: called, target } = node.exprKind.value
      const problem = callProblem(called, target !== undefined)
      if (problem !== undefined) return refused(problem)
    }
    if (node.exprKind.case === 'comprehensionExpr') {
      const loop = node.exprKind.value
      loopCount += 1
      if (loopCount > MAX_LOOPS) return refused(`the expression has more than ${MAX_LOOPS} loops`)
      if (loops >= MAX_LOOP_DEPTH) return refused(`loops are nested deeper than ${MAX_LOOP_DEPTH}`)
      const inner = new Set([...names, loop.iterVar, loop.iterVar2, loop.accuVar])
      todo.push({ expr: loop.iterRange, depth: depth + 1, loops, names })
      for (const part of [loop.accuInit, loop.loopCondition, loop.loopStep, loop.result]) {
        todo.push({ expr: part, depth: depth + 1, loops: loops + 1, names: inner })
      }
      continue
    }
    for (const child of childrenOf(node)) todo.push({ expr: child, depth: depth + 1, loops, names })
  }
  return { kind: 'within', used }
}

/** Puts the meters around the range and the condition of every loop. */
export function meterLoops(expr: Expr | undefined): void {
  const todo = [expr]
  for (let node = todo.pop(); node !== undefined || todo.length > 0; node = todo.pop()) {
    if (node === undefined) continue
    if (node.exprKind.case === 'comprehensionExpr') {
      const loop = node.exprKind.value
      todo.push(loop.iterRange, loop.accuInit, loop.loopCondition, loop.loopStep, loop.result)
      if (loop.iterRange) loop.iterRange = callOf(RANGE_METER, loop.iterRange)
      if (loop.loopCondition) loop.loopCondition = callOf(METER, loop.loopCondition)
      continue
    }
    todo.push(...childrenOf(node))
  }
}

/**
 * Tells CEL where a name of ours ends: it would first look, at every evaluation, whether `facts.os.kernel` and `facts.os` are
 * names of variables, types or enumerations, which takes as long as the rest.
 */
export function endNames(expr: Expr | undefined, variables: readonly string[]): void {
  const todo = [{ node: expr, names: new Set(variables) }]
  for (let item = todo.pop(); item !== undefined; item = todo.pop()) {
    const { node, names } = item
    if (node === undefined) continue
    if (node.exprKind.case === 'comprehensionExpr') {
      const loop = node.exprKind.value
      const inner = new Set([...names, loop.iterVar])
      todo.push({ node: loop.iterRange, names })
      for (const part of [loop.accuInit, loop.loopCondition, loop.loopStep, loop.result]) {
        todo.push({ node: part, names: inner })
      }
      continue
    }
    for (const child of childrenOf(node)) todo.push({ node: child, names })
    if (node.exprKind.case !== 'selectExpr') continue
    const { operand } = node.exprKind.value
    if (operand?.exprKind.case !== 'identExpr' || !names.has(operand.exprKind.value.name)) continue
    node.exprKind.value.operand = callOf(VALUE_OF, operand)
  }
}

function callOf(name: string, argument: Expr): Expr {
  return {
    ...argument,
    exprKind: {
      case: 'callExpr',
      value: { $typeName: 'cel.expr.Expr.Call', function: name, args: [argument] },
    },
  }
}

export function childrenOf(node: Expr): (Expr | undefined)[] {
  switch (node.exprKind.case) {
    case 'selectExpr':
      return [node.exprKind.value.operand]
    case 'callExpr':
      return [node.exprKind.value.target, ...node.exprKind.value.args]
    case 'listExpr':
      return node.exprKind.value.elements
    case 'structExpr':
      return node.exprKind.value.entries.flatMap(entry =>
        entry.keyKind.case === 'mapKey' ? [entry.keyKind.value, entry.value] : [entry.value],
      )
    case 'comprehensionExpr': {
      const loop = node.exprKind.value
      return [loop.iterRange, loop.accuInit, loop.loopCondition, loop.loopStep, loop.result]
    }
    case 'constExpr':
    case 'identExpr':
    case undefined:
      return []
  }
}
