import {
  type CelInput,
  type CelResult,
  CelScalar,
  celEnv,
  celFunc,
  isCelError,
  parse,
  plan,
} from '@bufbuild/cel'
import { reasonOf } from '../errors.ts'
import { cheapFirst } from './cheap-first.ts'
import { checkFields, pathOf } from './check-fields.ts'
import {
  checkBounds,
  childrenOf,
  type Expr,
  type ExpressionProblem,
  endNames,
  METER,
  meterLoops,
  RANGE_METER,
  tooDeep,
  VALUE_OF,
} from './expression-bounds.ts'
import type { Known } from './known-types.ts'
import { followPath, type PlainPath, plainPath } from './plain-path.ts'
import { offsetOf, showPlace } from './show-place.ts'
import { fitsInto } from './value-size.ts'

/** What an expression may speak of. What a caller leaves out is unknown to the expression, and using it an error. */
export interface QueryVariables {
  readonly facts?: CelInput
  readonly machine?: CelInput
  readonly host?: CelInput
  readonly labels?: CelInput
  readonly status?: CelInput
  readonly node?: CelInput
  readonly cluster?: CelInput
  readonly live?: CelInput
  readonly now?: CelInput
}

/** All variables that there are; docs/reference/query.md explains each. */
export const VARIABLE_NAMES = [
  'facts',
  'machine',
  'host',
  'labels',
  'status',
  'node',
  'cluster',
  'live',
  'now',
] as const
/** Those that the coordinator knows of each machine without asking it. */
export const STORED_VARIABLES = VARIABLE_NAMES.filter(name => name !== 'live')
export type VariableName = (typeof VARIABLE_NAMES)[number]

/** An expression that is parsed, within its bounds, and ready to be evaluated any number of times. */
export interface CompiledExpression {
  readonly text: string
  /** The variables it speaks of, so that nobody has to provide the others. */
  readonly uses: ReadonlySet<string>
  /** What it gives, as far as that can be told before it is evaluated. */
  readonly gives: Known
  evaluate(variables: QueryVariables): Evaluation
}

export type Compilation =
  | { readonly kind: 'compiled'; readonly expression: CompiledExpression }
  | {
      readonly kind: 'refused'
      /** One line. */
      readonly reason: string
      /** Two lines for people, the place in the expression below it; undefined: it has no place. */
      readonly place?: string
    }

export type Evaluation =
  | { readonly kind: 'value'; readonly value: Exclude<CelResult, Error> }
  | { readonly kind: 'error'; readonly reason: string }

/** The answer of a selector: an error is neither yes nor no. */
export type Selection =
  | { readonly kind: 'match' }
  | { readonly kind: 'no-match' }
  | { readonly kind: 'error'; readonly reason: string }

const MAX_EXPRESSION_BYTES = 4 * 1024
/** Loop rounds one evaluation may take, and the time for them. */
const MAX_ROUNDS = 100_000
const MAX_MS = 1_000
/** Rounds before the time is looked at. */
const FREE_ROUNDS = 256
/** Elements and characters of one result. */
const MAX_VALUE_SIZE = 256 * 1024

const ELSEWHERE = { live: 'is known in `muster query` with --probe alone' }

/** Parses and bounds a CEL expression over the variables. */
export function compileExpression(
  text: string,
  variables: readonly VariableName[] = VARIABLE_NAMES,
): Compilation {
  if (text.trim() === '') return refused('the expression is empty; write true to select all')
  if (Buffer.byteLength(text) > MAX_EXPRESSION_BYTES) {
    return refused(`the expression is longer than ${MAX_EXPRESSION_BYTES} bytes`)
  }
  const deep = tooDeep(text)
  if (deep !== undefined) return refused(deep)
  try {
    const parsed = parse(text)
    const checked = checkBounds(parsed.expr, variables, ELSEWHERE)
    const place = ({ node }: ExpressionProblem) => placeOf(text, node, parsed.sourceInfo?.positions)
    if (checked.kind === 'refused') return refused(checked.reason, place(checked))
    const fields = checkFields(parsed.expr)
    if (fields.problem !== undefined) return refused(fields.problem.reason, place(fields.problem))
    cheapFirst(parsed.expr)
    const paths = pathsByField(parsed.expr)
    const path = plainPath(parsed.expr)
    meterLoops(parsed.expr)
    endNames(parsed.expr, VARIABLE_NAMES)
    const meter = createMeter()
    const env = celEnv({
      funcs: [
        celFunc(VALUE_OF, [CelScalar.DYN], CelScalar.DYN, value => value),
        celFunc(METER, [CelScalar.DYN], CelScalar.DYN, condition => {
          meter.spend(1)
          return condition
        }),
        celFunc(RANGE_METER, [CelScalar.DYN], CelScalar.DYN, range => {
          if (typeof range === 'object' && range !== null && 'size' in range) meter.spend(Number(range.size))
          return range
        }),
      ],
    })
    const run = plan(env, parsed)
    const used = VARIABLE_NAMES.filter(name => checked.used.has(name))
    return {
      kind: 'compiled',
      expression: {
        text,
        uses: checked.used,
        gives: fields.gives,
        evaluate: given =>
          (path && evaluatePath(path, given)) ?? namingPath(evaluateMetered(run, meter, used, given), paths),
      },
    }
  } catch (error) {
    return syntaxProblem(text, oneLine(reasonOf(error)))
  }
}

/** The parser names a place in an input that the user knows by no name. */
function syntaxProblem(expression: string, text: string): Compilation {
  const [, line, column, rest] = /^<input>:(\d+):(\d+): (.*)$/.exec(text) ?? []
  if (rest === undefined) return refused(text)
  return refused(
    `${line === '1' ? '' : `line ${line}, `}column ${column}: ${rest}`,
    showPlace(expression, offsetOf(expression, Number(line), Number(column))),
  )
}

/** The parser tells of a field or a method where its dot is. What a macro was made into has no place. */
function placeOf(
  text: string,
  { id, exprKind }: ExpressionProblem['node'],
  positions: Readonly<Record<string, number>> | undefined,
): string | undefined {
  const at = positions?.[String(id)]
  if (at === undefined) return undefined
  // What a dot and spaces stand before is meant, in `a .b` too.
  const dotted = (exprKind.case === 'selectExpr' || exprKind.case === 'callExpr') && text.charAt(at) === '.'
  return showPlace(text, dotted ? at + (/^\.\s*/.exec(text.slice(at))?.[0].length ?? 1) : at)
}

/** The same for one that must say yes or no. */
export function compileSelector(
  text: string,
  variables: readonly VariableName[] = VARIABLE_NAMES,
): Compilation {
  const compiled = compileExpression(text, variables)
  if (compiled.kind === 'refused') return compiled
  const { gives } = compiled.expression
  if (gives === undefined || gives.kind === 'yes or no') return compiled
  return refused(
    `gives ${gives.kind === 'object' ? 'a whole object' : `a ${gives.kind}`} and no yes or no; compare it with something`,
    showPlace(text, text.search(/\S/)),
  )
}

/** Evaluates a compiled expression; whatever goes wrong is a value. */
export function evaluate(expression: CompiledExpression, variables: QueryVariables): Evaluation {
  return expression.evaluate(variables)
}

/** Evaluates an expression that must say yes or no. */
export function select(expression: CompiledExpression, variables: QueryVariables): Selection {
  const evaluation = expression.evaluate(variables)
  if (evaluation.kind === 'error') return evaluation
  if (typeof evaluation.value !== 'boolean') {
    return { kind: 'error', reason: 'the expression gives no boolean; compare its value with something' }
  }
  return evaluation.value ? { kind: 'match' } : { kind: 'no-match' }
}

/** The paths that end with each field; undefined: several do, and which of them is meant cannot be told. */
function pathsByField(expr: Expr | undefined): ReadonlyMap<string, string | undefined> {
  const paths = new Map<string, string | undefined>()
  const todo = [expr]
  while (todo.length > 0) {
    const node = todo.pop()
    if (node === undefined) continue
    todo.push(...childrenOf(node))
    if (node.exprKind.case !== 'selectExpr') continue
    const { field } = node.exprKind.value
    const path = pathOf(node)
    paths.set(field, paths.has(field) && paths.get(field) !== path ? undefined : path)
  }
  return paths
}

const NOT_FOUND = 'field not found: '

/** The engine names the last part of a path alone. */
function namingPath(evaluation: Evaluation, paths: ReadonlyMap<string, string | undefined>): Evaluation {
  if (evaluation.kind !== 'error' || !evaluation.reason.startsWith(NOT_FOUND)) return evaluation
  const path = paths.get(evaluation.reason.slice(NOT_FOUND.length))
  return path === undefined ? evaluation : { kind: 'error', reason: `${NOT_FOUND}${path}` }
}

/** The plain value at a path, without the engine; undefined where there is none, which the engine explains. */
function evaluatePath({ variable, fields }: PlainPath, variables: QueryVariables): Evaluation | undefined {
  const name = VARIABLE_NAMES.find(known => known === variable)
  const value = name && followPath(variables[name], fields)
  if (value === undefined || typeof value === 'object' || !fitsInto(value, MAX_VALUE_SIZE)) return undefined
  return { kind: 'value', value }
}

interface Meter {
  reset(): void
  spend(rounds: number): void
  readonly exhausted: boolean
}

function createMeter(): Meter {
  let rounds = 0
  let startedAt = 0
  let exhausted = false
  return {
    reset() {
      rounds = 0
      startedAt = 0
      exhausted = false
    },
    spend(count) {
      // The clock is read in loops alone, and not for the first rounds: most expressions are done by then.
      if (rounds >= FREE_ROUNDS && startedAt === 0) startedAt = performance.now()
      rounds += count
      if (rounds > MAX_ROUNDS || (startedAt > 0 && performance.now() - startedAt > MAX_MS)) exhausted = true
      if (exhausted) throw new Error('too costly')
    },
    get exhausted() {
      return exhausted
    },
  }
}

function evaluateMetered(
  run: (variables: Record<string, CelInput>) => CelResult,
  meter: Meter,
  used: readonly VariableName[],
  variables: QueryVariables,
): Evaluation {
  meter.reset()
  try {
    const given: Record<string, CelInput> = {}
    for (const name of used) {
      const value = variables[name]
      // Said here, because `has(status.x)` would take the absence of the whole variable for a no.
      if (value === undefined) return { kind: 'error', reason: `${name}: not known here` }
      given[name] = value
    }
    const value = run(given)
    // An exhausted loop may hide behind `true ||`; the answer would still depend on how fast this machine is.
    if (meter.exhausted)
      return { kind: 'error', reason: 'the expression is too costly: it loops over too much' }
    if (isCelError(value)) return { kind: 'error', reason: oneLine(value.message) }
    if (!fitsInto(value, MAX_VALUE_SIZE))
      return { kind: 'error', reason: 'the value of the expression is too large' }
    return { kind: 'value', value }
  } catch (error) {
    return { kind: 'error', reason: oneLine(reasonOf(error)) }
  }
}

function refused(reason: string, place?: string): Compilation {
  return { kind: 'refused', reason, ...(place === undefined ? {} : { place }) }
}

function oneLine(text: string): string {
  return text.replace(/\s+/g, ' ').slice(0, 500)
}
