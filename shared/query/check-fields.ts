import { suggest } from '../suggest.ts'
import { givenBy } from './check-call.ts'
import { childrenOf, type Expr, type ExpressionProblem } from './expression-bounds.ts'
import { type Known, NUMBER, TEXT, VARIABLE_TYPES, YES_OR_NO } from './known-types.ts'

export interface CheckedFields {
  /** What the expression gives, as far as it can be told. */
  readonly gives: Known
  /** What can never be right, whatever a machine says; undefined: nothing is. */
  readonly problem: ExpressionProblem | undefined
}

type Scope = ReadonlyMap<string, Known>

/**
 * Finds fields that no machine can have, and comparisons that no value can pass: a misspelt fact would otherwise look like one
 * that each machine happens to lack, and a rule over it admit nobody without a word.
 */
export function checkFields(expr: Expr | undefined): CheckedFields {
  const problems: ExpressionProblem[] = []
  const gives = expr && knownOf(expr, VARIABLE_TYPES, (reason, node) => problems.push({ reason, node }))
  return { gives, problem: problems[0] }
}

type Report = (reason: string, node: Expr) => void

function knownOf(node: Expr, scope: Scope, report: Report): Known {
  const of = (child: Expr | undefined, inner = scope) => child && knownOf(child, inner, report)
  switch (node.exprKind.case) {
    case 'constExpr':
      return constantOf(node)
    case 'identExpr':
      return scope.get(node.exprKind.value.name)
    case 'selectExpr': {
      const { operand, field, testOnly } = node.exprKind.value
      const found = fieldOf(of(operand), field, operand, reason => report(reason, node))
      return testOnly ? YES_OR_NO : found
    }
    case 'callExpr': {
      const { target, args, function: name } = node.exprKind.value
      of(target)
      return resultOf(
        name,
        args,
        args.map(arg => of(arg)),
        reason => report(reason, node),
      )
    }
    case 'comprehensionExpr': {
      const loop = node.exprKind.value
      const range = of(loop.iterRange)
      const inner = new Map(scope)
      inner.set(loop.iterVar, loop.iterVar2 === '' ? elementOf(range) : undefined)
      if (loop.iterVar2 !== '') inner.set(loop.iterVar2, undefined)
      inner.set(loop.accuVar, of(loop.accuInit))
      of(loop.loopCondition, inner)
      of(loop.loopStep, inner)
      return of(loop.result, inner)
    }
    case 'listExpr':
      for (const child of childrenOf(node)) of(child)
      return { kind: 'list', of: undefined }
    case 'structExpr':
    case undefined:
      for (const child of childrenOf(node)) of(child)
      return undefined
  }
}

const CONSTANTS: Readonly<Record<string, Known>> = {
  stringValue: TEXT,
  int64Value: NUMBER,
  uint64Value: NUMBER,
  doubleValue: NUMBER,
  boolValue: YES_OR_NO,
}

function constantOf(node: Expr): Known {
  if (node.exprKind.case !== 'constExpr') return undefined
  return CONSTANTS[node.exprKind.value.constantKind.case ?? '']
}

function elementOf(range: Known): Known {
  if (range?.kind === 'list') return range.of
  return range?.kind === 'map' ? TEXT : undefined
}

function fieldOf(
  known: Known,
  name: string,
  operand: Expr | undefined,
  report: (reason: string) => void,
): Known {
  if (known === undefined || known.kind === 'time') return undefined
  if (known.kind === 'map') return known.of
  const whole = pathOf(operand)
  if (known.kind === 'object') {
    if (known.names.includes(name)) return known.fieldOf(name)
    const near = suggest(name, known.names)
    const hint = near === undefined ? `there are ${known.names.join(', ')}` : `did you mean ${near}?`
    report(`${whole}.${name}: no such field; ${hint}`)
    return undefined
  }
  const use = known.kind === 'list' ? `write ${whole}.exists(x, x.${name} …)` : 'nothing stands below it'
  report(`${whole}: is ${WORDS[known.kind]} and has no ${name}; ${use}`)
  return undefined
}

const WORDS = { list: 'a list', text: 'a text', number: 'a number', 'yes or no': 'yes or no' } as const

const EQUALITIES = ['_==_', '_!=_']
const ORDERS = ['_<_', '_<=_', '_>_', '_>=_']
const OF_YES_OR_NO = ['_&&_', '_||_', '!_']

function resultOf(
  name: string,
  args: readonly Expr[],
  known: readonly Known[],
  report: (reason: string) => void,
): Known {
  if (EQUALITIES.includes(name) || ORDERS.includes(name)) {
    checkPair(args, known, report)
    return YES_OR_NO
  }
  if (OF_YES_OR_NO.includes(name) || name === '@in') return YES_OR_NO
  const [whole, second, third] = known
  if (name === '_?_:_') return isPlain(second) && second?.kind === third?.kind ? second : undefined
  if (name === '_[_]' && (whole?.kind === 'list' || whole?.kind === 'map')) return whole.of
  return givenBy(name)
}

const PLAIN = ['text', 'number', 'yes or no', 'time']

function isPlain(known: Known): boolean {
  return known !== undefined && PLAIN.includes(known.kind)
}

function checkPair(args: readonly Expr[], [a, b]: readonly Known[], report: (reason: string) => void): void {
  if (a === undefined || b === undefined || a.kind === b.kind) return
  if (!isPlain(a) || !isPlain(b)) return
  const word = (kind: string) => (kind === 'yes or no' ? kind : `a ${kind}`)
  const [first, second] = args
  report(`${pathOf(first)} is ${word(a.kind)} and ${pathOf(second)} ${word(b.kind)}: compare like with like`)
}

/** As it was written, as far as it is a path; else what it is. */
export function pathOf(node: Expr | undefined): string {
  switch (node?.exprKind.case) {
    case 'identExpr':
      return node.exprKind.value.name
    case 'selectExpr':
      return `${pathOf(node.exprKind.value.operand)}.${node.exprKind.value.field}`
    case 'constExpr': {
      const { case: kind, value } = node.exprKind.value.constantKind
      return kind === 'stringValue' ? JSON.stringify(value) : String(value)
    }
    case 'callExpr': {
      const { function: name, args } = node.exprKind.value
      return name === '_[_]' ? `${pathOf(args[0])}[${pathOf(args[1])}]` : `${name}(…)`
    }
    case 'comprehensionExpr':
    case 'listExpr':
    case 'structExpr':
    case undefined:
      return 'it'
  }
}
