import { fromJson, type MessageInitShape } from '@bufbuild/protobuf'
import { durationMs } from '@bufbuild/protobuf/wkt'
import { status } from '@grpc/grpc-js'
import { invalid, RpcError, reasonOf } from '../../shared/errors.ts'
import { FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import type { QueryRequest, QueryResponseSchema } from '../../shared/gen/muster/v1/operator_pb.ts'
import { factsToCel } from '../../shared/query/message-to-cel.ts'
import { Outbox } from '../../shared/rpc/outbox.ts'
import type { MachineEntry } from '../machines/entry.ts'
import {
  type Answer,
  answer,
  answerFromStore,
  compileField,
  type FleetQueryDeps,
  type FleetQuestion,
  readContexts,
} from '../queries/evaluate-fleet.ts'
import { MAX_SELECTION_ERRORS, type SelectionError } from '../queries/select-machines.ts'
import type { Sessions } from '../sessions/sessions.ts'
import type { Caller } from './caller.ts'

const MAX_SELECT = 32
const DEFAULT_DEADLINE_MS = 10_000
const LEAST_DEADLINE_MS = 1_000
const MOST_DEADLINE_MS = 60_000
/** Failures of a probe in which the node itself said that it cannot answer. */
const ANSWERS: readonly status[] = [status.FAILED_PRECONDITION, status.OUT_OF_RANGE]

export interface QueryDeps extends FleetQueryDeps {
  readonly sessions: FleetQueryDeps['sessions'] & Pick<Sessions, 'probe'>
}

type Item = MessageInitShape<typeof QueryResponseSchema>

/** Answers a question over the fleet: from the store, or of every node that is wanted, with a deadline. */
export function query(deps: QueryDeps) {
  return async function* (request: QueryRequest, _caller: Caller, signal: AbortSignal): AsyncGenerator<Item> {
    const question = readQuestion(request)
    const tally = { asked: 0, answered: 0, matched: 0 }
    const silent: string[] = []
    const errors: SelectionError[] = []
    const note = (machine: string, reason: string) => {
      if (errors.length < MAX_SELECTION_ERRORS) errors.push({ machine, reason })
    }
    const answers = request.live
      ? answerLive(deps, question, readDeadline(request), signal)
      : answerFromStore(deps, question, ({ state }) => state === 'active' || state === 'enrolled')
    for await (const one of answers) {
      tally.asked++
      if (one.kind === 'silent') {
        silent.push(nameOf(deps, one.entry))
        continue
      }
      tally.answered++
      if (one.kind === 'error') note(one.entry.id, one.reason)
      if (one.kind !== 'match') continue
      tally.matched++
      for (const reason of one.errors) note(one.entry.id, reason)
      const host = hostOf(deps, one.entry)
      yield { item: { case: 'row', value: { machine: one.entry.id, host, values: [...one.values] } } }
      if (signal.aborted) return
    }
    yield { item: { case: 'end', value: { ...tally, silent: silent.toSorted(), errors } } }
  }
}

function readQuestion(request: QueryRequest): FleetQuestion {
  if (request.select.length > MAX_SELECT) {
    throw invalid(`select: ${request.select.length} expressions, at most ${MAX_SELECT} are allowed`)
  }
  return {
    where: compileField('expression', request.expression),
    select: request.select.map((text, index) => {
      if (text.trim() === '') throw invalid(`select[${index}]: is empty`)
      return compileField(`select[${index}]`, text)
    }),
  }
}

function readDeadline({ deadline }: QueryRequest): number {
  const ms = deadline ? durationMs(deadline) : DEFAULT_DEADLINE_MS
  if (ms < LEAST_DEADLINE_MS || ms > MOST_DEADLINE_MS) throw invalid('deadline: must be 1 s to 60 s')
  return ms
}

type LiveAnswer = Answer | { readonly kind: 'silent'; readonly entry: MachineEntry }

/**
 * Asks every active machine at once and hands on what comes as it comes. Ends when all answered or by the deadline; who
 * did not answer is named, and so is who is not connected at all.
 */
async function* answerLive(
  deps: QueryDeps,
  question: FleetQuestion,
  deadlineMs: number,
  signal: AbortSignal,
): AsyncGenerator<LiveAnswer> {
  const entries = [...deps.directory.entries()].filter(({ state }) => state === 'active')
  const contextOf = await readContexts(deps, question, entries)
  // Room for one answer of each machine: nobody's is dropped because the reader is slow.
  const outbox = new Outbox<LiveAnswer>(entries.length)
  const askOne = async (entry: MachineEntry) => {
    if (!deps.sessions.online(entry.id)) return outbox.push({ kind: 'silent', entry })
    try {
      return outbox.push(judge(entry, await deps.sessions.probe(entry.id, 'facts', deadlineMs, signal)))
    } catch (error) {
      const answered = error instanceof RpcError && ANSWERS.includes(error.code)
      return outbox.push(
        answered ? { kind: 'error', entry, reason: error.message.slice(0, 500) } : { kind: 'silent', entry },
      )
    }
  }
  const judge = (entry: MachineEntry, json: string): Answer => {
    try {
      const facts = fromJson(FactsSchema, JSON.parse(json), { ignoreUnknownFields: true })
      return answer(question, entry, { ...contextOf(entry), facts: factsToCel(facts) })
    } catch (error) {
      return { kind: 'error', entry, reason: `its answer is not readable: ${reasonOf(error).slice(0, 200)}` }
    }
  }
  void Promise.allSettled(entries.map(askOne)).then(() => outbox.close())
  yield* outbox
}

function hostOf({ directory }: QueryDeps, entry: MachineEntry): string {
  const assignment = directory.assignment(entry.id)
  return assignment.kind === 'host' ? assignment.host : ''
}

function nameOf(deps: QueryDeps, entry: MachineEntry): string {
  return hostOf(deps, entry) || entry.id
}
