import type { MessageInitShape } from '@bufbuild/protobuf'
import { invalid } from '../../shared/errors.ts'
import type {
  ListMachinesRequest,
  ListMachinesResponseSchema,
  MachineState,
  SelectorErrorSchema,
} from '../../shared/gen/muster/v1/operator_pb.ts'
import { isDigest } from '../../shared/ids.ts'
import { type CompiledExpression, compileExpression, select } from '../../shared/query/expression.ts'
import {
  type DescribeDeps,
  describeMachines,
  type MachineInit,
  STATE_NUMBERS,
} from '../machines/describe-machines.ts'
import { STATES } from '../machines/entry.ts'
import { MAX_FACTS_BYTES, readFacts } from '../machines/read-facts.ts'
import { selectorVariables } from '../machines/selector-variables.ts'
import { newestFacts } from '../store/facts.ts'
import { type MachineRow, pageMachines } from '../store/machines.ts'
import type { Caller } from './caller.ts'

const MAX_MACHINES = 10_000
const MAX_ERRORS = 100
const PAGE = 250
/** An answer with facts stays below this, so that it fits into one message. */
const MAX_FACTS_TOTAL_BYTES = 8 * 1024 * 1024

type SelectorErrorInit = MessageInitShape<typeof SelectorErrorSchema>

/** Machines in order of their ids, in pages. One that the selector cannot judge is named, and is neither in nor out. */
export function listMachines(deps: DescribeDeps) {
  return async (
    request: ListMachinesRequest,
    _caller: Caller,
    signal: AbortSignal,
  ): Promise<MessageInitShape<typeof ListMachinesResponseSchema>> => {
    const { db } = deps.store
    const limit = request.limit === 0 ? MAX_MACHINES : request.limit
    if (limit > MAX_MACHINES) throw invalid(`limit: at most ${MAX_MACHINES}`)
    if (request.pageToken !== '' && !isDigest(request.pageToken)) {
      throw invalid('page_token: is not one from a response before')
    }
    const states = readStates(request.states)
    const where = readWhere(request.where)
    const machines: MachineInit[] = []
    const errors: SelectorErrorInit[] = []
    let factsBytes = 0
    for (let after = request.pageToken; ; ) {
      signal.throwIfAborted()
      const rows = await pageMachines(db, { after, limit: PAGE, ...(states && { states }) })
      const ids = rows.map(row => row.id)
      const facts = where || request.withFacts ? await newestFacts(db, ids) : new Map<string, Buffer>()
      const chosen = where ? choose(deps, where, rows, facts, errors) : rows
      const shown = await describeMachines(deps, db, chosen)
      for (const machine of shown) {
        const bytes = request.withFacts ? facts.get(machine.id ?? '') : undefined
        factsBytes += bytes?.length ?? 0
        const last = machines.at(-1)?.id
        if (machines.length >= limit || (factsBytes > MAX_FACTS_TOTAL_BYTES && last !== undefined)) {
          return { machines, errors, nextPageToken: last ?? '' }
        }
        machines.push(bytes ? { ...machine, facts: bytes } : machine)
      }
      const end = rows.at(-1)
      if (!end || rows.length < PAGE) return { machines, errors }
      after = end.id
    }
  }
}

function readStates(states: readonly MachineState[]): readonly string[] | undefined {
  if (states.length === 0) return undefined
  const names = STATES.filter(name => states.includes(STATE_NUMBERS[name]))
  if (names.length !== new Set(states).size) throw invalid('states: names a state that is unknown')
  return names
}

function readWhere(text: string): CompiledExpression | undefined {
  if (text === '') return undefined
  const compiled = compileExpression(text)
  if (compiled.kind === 'refused') throw invalid(`where: ${compiled.reason}`)
  return compiled.expression
}

function choose(
  deps: DescribeDeps,
  where: CompiledExpression,
  rows: readonly MachineRow[],
  facts: ReadonlyMap<string, Buffer>,
  errors: SelectorErrorInit[],
): readonly MachineRow[] {
  const nowMs = deps.clock.now().getTime()
  return rows.filter(row => {
    const bytes = facts.get(row.id)
    const reading = bytes && readFacts(bytes, MAX_FACTS_BYTES)
    const known = reading?.kind === 'ok' ? reading.facts : undefined
    const selection = select(where, selectorVariables(deps, row, known, nowMs))
    if (selection.kind === 'error' && errors.length < MAX_ERRORS) {
      errors.push({ machine: row.id, reason: selection.reason })
    }
    return selection.kind === 'match'
  })
}
