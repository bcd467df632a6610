import { setImmediate } from 'node:timers/promises'
import type { Clock } from '../../shared/clock.ts'
import { invalid } from '../../shared/errors.ts'
import { celToJson } from '../../shared/query/cel-to-json.ts'
import {
  type CompiledExpression,
  compileExpression,
  evaluate,
  type QueryVariables,
  select,
} from '../../shared/query/expression.ts'
import type { DescribeDeps } from '../machines/describe-machines.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import type { MachineEntry } from '../machines/entry.ts'
import { labelsOf } from '../machines/labels.ts'
import { selectorVariables } from '../machines/selector-variables.ts'
import { findMachines, type MachineRow } from '../store/machines.ts'
import type { Store } from '../store/store.ts'
import type { FactsCache } from './facts-cache.ts'

export interface FleetQueryDeps {
  readonly store: Store
  readonly clock: Clock
  readonly directory: MachineDirectory
  readonly sessions: DescribeDeps['sessions']
  readonly conditions: DescribeDeps['conditions']
  readonly factsCache: FactsCache
}

export interface FleetQuestion {
  readonly where: CompiledExpression
  readonly select: readonly CompiledExpression[]
}

export type Answer =
  | {
      readonly kind: 'match'
      readonly entry: MachineEntry
      readonly values: readonly string[]
      readonly errors: readonly string[]
    }
  | { readonly kind: 'no-match'; readonly entry: MachineEntry }
  | { readonly kind: 'error'; readonly entry: MachineEntry; readonly reason: string }

const PAGE = 500
/** How long expressions may keep the event loop from everything else. */
const SLICE_MS = 10
/** JSON text of one value. */
const MAX_VALUE_CHARS = 64 * 1024

/** Compiles or throws with the field's name. Empty: true. */
export function compileField(field: string, text: string): CompiledExpression {
  const compiled = compileExpression(text.trim() === '' ? 'true' : text)
  if (compiled.kind === 'refused') throw invalid(`${field}: ${compiled.reason}`)
  return compiled.expression
}

/** Answers a question from the store for each machine, in slices between which the event loop does other work. */
export async function* answerFromStore(
  deps: FleetQueryDeps,
  question: FleetQuestion,
  wanted: (entry: MachineEntry) => boolean,
): AsyncGenerator<Answer> {
  const { store, directory, factsCache } = deps
  const entries = [...directory.entries()].filter(wanted)
  let sliceStart = performance.now()
  for (let at = 0; at < entries.length; at += PAGE) {
    const page = entries.slice(at, at + PAGE)
    const facts = await factsCache.read(store.db, page)
    const contextOf = await readContexts(deps, question, page)
    for (const entry of page) {
      const own = facts.get(entry.id)
      const variables = contextOf(entry)
      yield answer(question, entry, own === undefined ? variables : { ...variables, facts: own })
      if (performance.now() - sliceStart > SLICE_MS) {
        await setImmediate()
        sliceStart = performance.now()
      }
    }
  }
}

/**
 * All variables of these machines but their facts. Rows are read only for questions that speak of what stands in them;
 * what an expression does not use costs nothing.
 */
export async function readContexts(
  deps: Omit<FleetQueryDeps, 'factsCache'>,
  question: FleetQuestion,
  entries: readonly MachineEntry[],
): Promise<(entry: MachineEntry) => QueryVariables> {
  const { store, directory, clock } = deps
  const asked = [question.where, ...question.select].some(({ text }) => /\b(machine|status)\b/.test(text))
  const rows = new Map<string, MachineRow>()
  for (let at = 0; asked && at < entries.length; at += PAGE) {
    const ids = entries.slice(at, at + PAGE).map(({ id }) => id)
    for (const row of await findMachines(store.db, ids)) rows.set(row.id, row)
  }
  return entry => {
    const row = rows.get(entry.id)
    if (row) return selectorVariables(deps, row, undefined, clock.now().getTime())
    const assignment = directory.assignment(entry.id)
    return {
      host: assignment.kind === 'host' ? assignment.host : '',
      labels: new Map(Object.entries(labelsOf(directory, entry.id, entry.labels))),
    }
  }
}

/** One machine's answer. A selector that errs is neither yes nor no. */
export function answer(question: FleetQuestion, entry: MachineEntry, variables: QueryVariables): Answer {
  const selection = select(question.where, variables)
  if (selection.kind === 'error') return { kind: 'error', entry, reason: selection.reason }
  if (selection.kind === 'no-match') return { kind: 'no-match', entry }
  const values: string[] = []
  const errors: string[] = []
  for (const expression of question.select) {
    const value = evaluate(expression, variables)
    const json = value.kind === 'value' ? JSON.stringify(celToJson(value.value)) : undefined
    if (json !== undefined && json.length <= MAX_VALUE_CHARS) values.push(json)
    else {
      values.push('null')
      const reason = value.kind === 'error' ? value.reason : `more than ${MAX_VALUE_CHARS} characters`
      errors.push(`${expression.text}: ${reason}`)
    }
  }
  return { kind: 'match', entry, values, errors }
}
