import type { CelValue } from '@bufbuild/cel'
import type { MessageInitShape } from '@bufbuild/protobuf'
import { durationMs } from '@bufbuild/protobuf/wkt'
import type { QueryRequest, QueryResponseSchema, QueryRow } from '../../shared/gen/muster/v1/question_pb.ts'
import { celToJson } from '../../shared/query/cel-to-json.ts'
import { invalid } from '../../shared/rpc/rpc-error.ts'
import type { MachineEntry } from '../machines/entry.ts'
import { arranger, type Row } from '../queries/arrange-rows.ts'
import { answerLive, type LiveDeps } from '../queries/ask-live.ts'
import { type Answer, answerFromStore, usedBy } from '../queries/evaluate-fleet.ts'
import { FACTS_QUESTION, type LiveQuestion, readProbes } from '../queries/live-kinds.ts'
import { type Question, readQuestion } from '../queries/read-question.ts'
import { MAX_SELECTION_ERRORS, type SelectionError } from '../queries/select-machines.ts'
import type { Caller } from './caller.ts'

const DEFAULT_DEADLINE_MS = 10_000
const LEAST_DEADLINE_MS = 1_000
const MOST_DEADLINE_MS = 60_000
/** JSON text of one value. */
const MAX_VALUE_CHARS = 64 * 1024
/** Rows that are told in one message, and the characters of their values: one message for each costs more than its row. */
const ROWS_AT_ONCE = 500
const CHARS_AT_ONCE = 256 * 1024

export type QueryDeps = LiveDeps

type Item = MessageInitShape<typeof QueryResponseSchema>

/** Answers a question over the fleet: from the store, or of every node that is wanted, with a deadline. */
export function query(deps: QueryDeps) {
  return async function* (request: QueryRequest, _caller: Caller, signal: AbortSignal): AsyncGenerator<Item> {
    const question = readQuestion(request)
    const asked = readAsked(request, question)
    const tally = { asked: 0, answered: 0, matched: 0, unmatched: 0, failed: 0 }
    const silent: string[] = []
    const errors: SelectionError[] = []
    const note = (machine: string, reason: string) => {
      if (errors.length < MAX_SELECTION_ERRORS) errors.push({ machine, reason })
    }
    const { columns } = question
    yield { item: { case: 'columns', value: { names: [...columns], groups: question.groups !== undefined } } }
    // Rows whose order follows from the machines' names alone could be told at once; those asked live come as they come.
    const atOnce = request.live && !question.groups && question.sort.length === 0 && !question.limit
    const arrangement = atOnce ? undefined : arranger(question)
    const answers = asked
      ? answerLive(deps, question, asked, readDeadline(request), signal)
      : answerFromStore(deps, question, ({ state }) => state === 'active' || state === 'enrolled')
    for await (const some of answers) {
      for (const one of some) {
        tally.asked++
        if (one.kind === 'silent') {
          silent.push(nameOf(deps, one.entry))
          continue
        }
        tally.answered++
        count(tally, one)
        if (one.kind === 'error') note(nameOf(deps, one.entry), one.reason)
        if (one.kind !== 'match') continue
        for (const reason of one.errors) note(nameOf(deps, one.entry), reason)
        const host = hostOf(deps, one.entry)
        const row = { name: host || one.entry.id, machine: one.entry.id, host, values: one.values }
        if (!arrangement) {
          yield { item: { case: 'row', value: showRow(row, columns, note) } }
          if (signal.aborted) return
          continue
        }
        for (const { column, reason } of arrangement.add(row)) note(row.name, `${column}: ${reason}`)
      }
    }
    for (const rows of packRows(arrangement?.rows() ?? [], row => showRow(row, columns, note))) {
      yield { item: { case: 'rows', value: { $typeName: 'muster.v1.QueryRows', rows } } }
      if (signal.aborted) return
    }
    yield { item: { case: 'end', value: { ...tally, silent: silent.toSorted(), errors } } }
  }
}

function count(tally: { matched: number; unmatched: number; failed: number }, { kind }: Answer): void {
  if (kind === 'match') tally.matched++
  else if (kind === 'no-match') tally.unmatched++
  else tally.failed++
}

/** What nodes are asked; undefined: the store answers. */
function readAsked(request: QueryRequest, question: Question): readonly LiveQuestion[] | undefined {
  const probes = readProbes(request.probes)
  const used = usedBy(question)
  if (!request.live) {
    if (probes.length > 0) throw invalid('probes: are asked of the nodes: ask live')
    if (used.has('live')) throw invalid('live: is what nodes answer at once: ask live, with probes')
    return undefined
  }
  if (used.has('live') && probes.length === 0) throw invalid('live: nothing is asked: name probes')
  // Whoever asks nothing in particular learns who answers, and with what.
  return probes.length === 0 || used.has('facts') ? [FACTS_QUESTION, ...probes] : probes
}

function readDeadline({ deadline }: QueryRequest): number {
  const ms = deadline ? durationMs(deadline) : DEFAULT_DEADLINE_MS
  if (ms < LEAST_DEADLINE_MS || ms > MOST_DEADLINE_MS) throw invalid('deadline: must be 1 s to 60 s')
  return ms
}

/** The rows in messages of bounded size. A row is made into texts only when its message is wanted. */
function* packRows(rows: readonly Row[], show: (row: Row) => QueryRow): Iterable<QueryRow[]> {
  let pack: QueryRow[] = []
  let chars = 0
  for (const row of rows) {
    const shown = show(row)
    const length = shown.values.reduce((sum, text) => sum + text.length, 0)
    if (pack.length > 0 && (pack.length >= ROWS_AT_ONCE || chars + length > CHARS_AT_ONCE)) {
      yield pack
      pack = []
      chars = 0
    }
    pack.push(shown)
    chars += length
  }
  if (pack.length > 0) yield pack
}

function showRow(
  { machine, host, name, values }: Row,
  columns: readonly string[],
  note: (machine: string, reason: string) => void,
): QueryRow {
  const shown = values.map((value, at) => {
    const text = jsonOf(value)
    if (text.length <= MAX_VALUE_CHARS) return text
    note(name, `${columns[at] ?? ''}: more than ${MAX_VALUE_CHARS} characters`)
    return 'null'
  })
  return { $typeName: 'muster.v1.QueryRow', machine, host, values: shown }
}

function jsonOf(value: CelValue | undefined): string {
  return value === undefined ? 'null' : JSON.stringify(celToJson(value))
}

function hostOf({ directory }: QueryDeps, entry: MachineEntry): string {
  const assignment = directory.assignment(entry.id)
  return assignment.kind === 'host' ? assignment.host : ''
}

function nameOf(deps: QueryDeps, entry: MachineEntry): string {
  return hostOf(deps, entry) || entry.id
}
