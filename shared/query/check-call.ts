import { celEnv } from '@bufbuild/cel'
import { suggest } from '../suggest.ts'
import { AGGREGATES } from './aggregate-names.ts'
import { type Known, NUMBER, TEXT, TIME, YES_OR_NO } from './known-types.ts'

interface Signature {
  readonly isMethod: boolean
  readonly isFunction: boolean
  readonly gives: Known
}

const RESULTS: Readonly<Record<string, Known>> = {
  int: NUMBER,
  uint: NUMBER,
  double: NUMBER,
  string: TEXT,
  bool: YES_OR_NO,
  'google.protobuf.Timestamp': TIME,
}

/** Functions that a text can call by their name; operators have names that no text can write. */
const FUNCTIONS: ReadonlyMap<string, Signature> = readFunctions()

function readFunctions(): ReadonlyMap<string, Signature> {
  const functions = new Map<string, Signature>()
  for (const { name, target, result } of celEnv({}).funcs) {
    if (!isName(name)) continue
    const before = functions.get(name)
    functions.set(name, {
      isMethod: target !== undefined || before?.isMethod === true,
      isFunction: target === undefined || before?.isFunction === true,
      // Whatever it is given, it gives the same kind of value.
      gives: RESULTS[result.name],
    })
  }
  return functions
}

/** What the parser makes loops of, where it is written so. */
const MACROS: Readonly<Record<string, string>> = {
  has: 'has(a.b)',
  all: 'list.all(x, …)',
  exists: 'list.exists(x, …)',
  exists_one: 'list.exists_one(x, …)',
  existsOne: 'list.existsOne(x, …)',
  filter: 'list.filter(x, …)',
  map: 'list.map(x, …)',
}
/** Words for what cannot be asked over machines. */
const OTHER_AGGREGATES = ['avg', 'average', 'mean', 'median']

/** What a function gives; undefined: that cannot be told. */
export function givenBy(name: string): Known {
  return FUNCTIONS.get(name)?.gives
}

/** Why no value can ever come of a call, or undefined. */
export function callProblem(name: string, hasTarget: boolean): string | undefined {
  if (!isName(name)) return undefined
  const known = FUNCTIONS.get(name)
  if (known?.isMethod && !hasTarget && !known.isFunction) return `${name}: is written x.${name}(…)`
  if (known?.isFunction && hasTarget && !known.isMethod) return `${name}: is written ${name}(x)`
  if (known) return undefined
  const macro = MACROS[name]
  if (macro !== undefined) return `${name}: is written ${macro}`
  return `${name}: ${hasTarget ? unknownText(name) : (aggregateText(name) ?? unknownText(name))}`
}

function aggregateText(name: string): string | undefined {
  const aggregates = AGGREGATES.join(', ')
  if (AGGREGATES.some(known => known === name)) {
    return `${aggregates} are of many machines: each stands alone in a column of \`muster query\``
  }
  if (OTHER_AGGREGATES.includes(name)) return `no such function; of many machines there are ${aggregates}`
  return undefined
}

function unknownText(name: string): string {
  const names = [...FUNCTIONS.keys(), ...Object.keys(MACROS)]
  const near = suggest(name, [...names, ...AGGREGATES])
  return near === undefined
    ? `no such function; there are ${names.toSorted().join(', ')}`
    : `no such function; did you mean ${near}?`
}

function isName(name: string): boolean {
  return /^[A-Za-z][A-Za-z0-9_]*$/.test(name)
}
