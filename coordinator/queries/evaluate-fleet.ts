import { setImmediate } from 'node:timers/promises'
import type { CelInput, CelValue } from '@bufbuild/cel'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { Clock } from '../../shared/clock.ts'
import {
  type Compilation,
  type CompiledExpression,
  compileExpression,
  evaluate,
  type QueryVariables,
  select,
} from '../../shared/query/expression.ts'
import { invalid } from '../../shared/rpc/rpc-error.ts'
import type { DescribeDeps } from '../machines/describe-machines.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import type { MachineEntry } from '../machines/entry.ts'
import { labelsOf } from '../machines/labels.ts'
import { nodeVariable } from '../machines/node-variable.ts'
import { selectorVariables } from '../machines/selector-variables.ts'
import { findMachines, type MachineRow } from '../store/machines.ts'
import type { Store } from '../store/store.ts'
import { type ClusterReader, clusterVariables, NO_CLUSTER } from './cluster-variables.ts'
import type { FactsCache } from './facts-cache.ts'

export interface FleetQueryDeps {
  readonly store: Store
  readonly clock: Clock
  readonly directory: MachineDirectory
  readonly sessions: DescribeDeps['sessions']
  readonly conditions: DescribeDeps['conditions']
  readonly factsCache: FactsCache
  /** Absent: nothing is known of clusters, and asking for it an error. */
  readonly clusterReader?: ClusterReader
}

export interface FleetQuestion {
  readonly where: CompiledExpression
  readonly select: readonly CompiledExpression[]
}

export type Answer =
  | {
      readonly kind: 'match'
      readonly entry: MachineEntry
      /** One for each `select`; undefined: not known. */
      readonly values: readonly (CelValue | undefined)[]
      readonly errors: readonly string[]
    }
  | { readonly kind: 'no-match'; readonly entry: MachineEntry }
  | { readonly kind: 'error'; readonly entry: MachineEntry; readonly reason: string }

const PAGE = 500
const NO_FACTS: readonly undefined[] = []
/** How long expressions may keep the event loop from everything else. */
const SLICE_MS = 10
/** How many machines are answered for before the time is looked at. */
const LOOK_EVERY = 16

/** Compiles or throws with the field's name. Empty: true. */
export function compileField(
  field: string,
  text: string,
  compile: (text: string) => Compilation = compileExpression,
): CompiledExpression {
  const compiled = compile(text.trim() === '' ? 'true' : text)
  if (compiled.kind === 'refused') {
    const { reason, place } = compiled
    throw invalid(`${field}: ${reason}${place === undefined ? '' : `\n${place}`}`)
  }
  return compiled.expression
}

/** Answers a question from the store for each machine, some at a time, between which the event loop does other work. */
export async function* answerFromStore(
  deps: FleetQueryDeps,
  question: FleetQuestion,
  wanted: (entry: MachineEntry) => boolean,
): AsyncGenerator<readonly Answer[]> {
  const { store, directory, factsCache } = deps
  const entries = [...directory.entries()].filter(wanted)
  const ofFacts = usedBy(question).has('facts')
  let sliceStart = performance.now()
  for (let at = 0; at < entries.length; at += PAGE) {
    const page = entries.slice(at, at + PAGE)
    const facts = ofFacts ? await factsCache.read(store.db, page) : NO_FACTS
    const contextOf = await readContexts(deps, question, page)
    let answers: Answer[] = []
    for (const [index, entry] of page.entries()) {
      answers.push(answer(question, entry, contextOf(entry, facts[index])))
      if (index % LOOK_EVERY !== 0 || performance.now() - sliceStart <= SLICE_MS) continue
      yield answers
      answers = []
      await setImmediate()
      sliceStart = performance.now()
    }
    yield answers
  }
}

/** The variables that a question speaks of. */
export function usedBy({ where, select: columns }: FleetQuestion): ReadonlySet<string> {
  return new Set([where, ...columns].flatMap(({ uses }) => [...uses]))
}

/**
 * All variables of these machines but what they are asked live; their facts are those that are given, if any. Rows are read only for questions that
 * speak of what stands in them; what an expression does not use costs nothing.
 */
export async function readContexts(
  deps: Omit<FleetQueryDeps, 'factsCache'>,
  question: FleetQuestion,
  entries: readonly MachineEntry[],
): Promise<(entry: MachineEntry, facts?: CelInput) => QueryVariables> {
  const { store, directory, clock, clusterReader } = deps
  const used = usedBy(question)
  const nowMs = clock.now().getTime()
  const rows = new Map<string, MachineRow>()
  const ofRows = ['machine', 'status', 'node'].some(name => used.has(name))
  for (let at = 0; ofRows && at < entries.length; at += PAGE) {
    const ids = entries.slice(at, at + PAGE).map(({ id }) => id)
    for (const row of await findMachines(store.db, ids)) rows.set(row.id, row)
  }
  const clusters =
    clusterReader && used.has('cluster') ? await clusterVariables(clusterReader, nowMs) : undefined
  const now = timestampFromMs(nowMs)
  const ofHost = used.has('host')
  const ofLabels = used.has('labels')
  // Made for every machine of the fleet: one object each, and nothing that nobody asks for.
  const only = { now }
  if (!ofRows && !ofHost && !ofLabels && !clusters) {
    return (_entry, facts) => (facts === undefined ? only : { now, facts })
  }
  return (entry, facts) => {
    const row = rows.get(entry.id)
    const cluster = clusters && { cluster: clusters.get(entry.id) ?? NO_CLUSTER }
    if (row) {
      const node = used.has('node') ? nodeVariable(row) : undefined
      return {
        ...selectorVariables(deps, row, undefined, nowMs),
        ...(node !== undefined && { node }),
        ...cluster,
        ...(facts !== undefined && { facts }),
        now,
      }
    }
    const assignment = ofHost ? directory.assignment(entry.id) : undefined
    return {
      ...(assignment && { host: assignment.kind === 'host' ? assignment.host : '' }),
      ...(ofLabels && {
        labels: new Map(Object.entries(labelsOf(directory, entry.id, entry.labels))),
      }),
      ...cluster,
      ...(facts !== undefined && { facts }),
      now,
    }
  }
}

/** One machine's answer. A selector that errs is neither yes nor no. */
export function answer(question: FleetQuestion, entry: MachineEntry, variables: QueryVariables): Answer {
  const selection = select(question.where, variables)
  if (selection.kind === 'error') return { kind: 'error', entry, reason: selection.reason }
  if (selection.kind === 'no-match') return { kind: 'no-match', entry }
  const errors: string[] = []
  const values = question.select.map(expression => {
    const value = evaluate(expression, variables)
    if (value.kind === 'value') return value.value
    errors.push(`${expression.text}: ${value.reason}`)
    return undefined
  })
  return { kind: 'match', entry, values, errors }
}
