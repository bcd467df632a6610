import { setImmediate } from 'node:timers/promises'
import { invalid } from '../../shared/errors.ts'
import { celToJson } from '../../shared/query/cel-to-json.ts'
import {
  type CompiledExpression,
  compileExpression,
  evaluate,
  type QueryVariables,
  select,
} from '../../shared/query/expression.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import type { MachineEntry } from '../machines/entry.ts'
import type { Sessions } from '../sessions/sessions.ts'
import { appliedRevisions } from '../store/operations.ts'
import type { Store } from '../store/store.ts'
import type { FactsCache } from './facts-cache.ts'
import { machineVariables } from './variables.ts'

export interface FleetQueryDeps {
  readonly store: Store
  readonly directory: Pick<MachineDirectory, 'entries' | 'assignment' | 'targets'>
  readonly sessions: Pick<Sessions, 'online'>
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
  const applied = await appliedWhereAsked(deps, question)
  let sliceStart = performance.now()
  for (let at = 0; at < entries.length; at += PAGE) {
    const page = entries.slice(at, at + PAGE)
    const facts = await factsCache.read(store.db, page)
    for (const entry of page) {
      const own = facts.get(entry.id)
      const variables = contextOf(deps, entry, applied)
      yield answer(question, entry, own === undefined ? variables : { ...variables, facts: own })
      if (performance.now() - sliceStart > SLICE_MS) {
        await setImmediate()
        sliceStart = performance.now()
      }
    }
  }
}

/** Where each machine is, read only for questions that speak of it: a scan of all machines. */
export async function appliedWhereAsked(
  { store }: Pick<FleetQueryDeps, 'store'>,
  { where, select: selected }: FleetQuestion,
): Promise<ReadonlyMap<string, number>> {
  const asked = [where, ...selected].some(({ text }) => /\bstatus\b/.test(text))
  return asked ? await appliedRevisions(store.db) : new Map()
}

export function contextOf(
  { directory, sessions }: Omit<FleetQueryDeps, 'store' | 'factsCache'>,
  entry: MachineEntry,
  applied: ReadonlyMap<string, number>,
): QueryVariables {
  return machineVariables(entry, {
    assignment: directory.assignment(entry.id),
    targets: directory.targets,
    online: sessions.online(entry.id),
    appliedRevision: applied.get(entry.id),
  })
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
