import type { CelInput } from '@bufbuild/cel'
import { status } from '@grpc/grpc-js'
import { cutText } from '../../shared/cut-text.ts'
import { reasonOf } from '../../shared/errors.ts'
import { Outbox } from '../../shared/rpc/outbox.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'
import type { MachineEntry } from '../machines/entry.ts'
import type { Sessions } from '../sessions/sessions.ts'
import {
  type Answer,
  answer,
  type FleetQueryDeps,
  type FleetQuestion,
  readContexts,
} from './evaluate-fleet.ts'
import { type LiveQuestion, type LiveReading, readAnswer } from './live-kinds.ts'

/** Failures of a probe in which the node itself said that it cannot answer. */
const ANSWERS: readonly status[] = [status.FAILED_PRECONDITION, status.OUT_OF_RANGE]
const MAX_REASON_CHARS = 500

export interface LiveDeps extends FleetQueryDeps {
  readonly sessions: FleetQueryDeps['sessions'] & Pick<Sessions, 'probe'>
}

export type LiveAnswer = Answer | { readonly kind: 'silent'; readonly entry: MachineEntry }

type Part =
  | { readonly kind: 'read'; readonly question: LiveQuestion; readonly reading: LiveReading }
  | { readonly kind: 'refused'; readonly question: LiveQuestion; readonly reason: string }
  /** Nothing came by the deadline, or the session ended. */
  | { readonly kind: 'silent'; readonly question: LiveQuestion; readonly reason: string }

/**
 * Asks every active machine at once and hands on what comes as it comes. Ends when all answered or by the deadline; who
 * answered nothing is named, and so is who is not connected at all. What a node refuses, or does not say in time beside what it says, is
 * not known of it.
 */
export async function* answerLive(
  deps: LiveDeps,
  question: FleetQuestion,
  asked: readonly LiveQuestion[],
  deadlineMs: number,
  signal: AbortSignal,
): AsyncGenerator<readonly LiveAnswer[]> {
  const entries = [...deps.directory.entries()].filter(({ state }) => state === 'active')
  const contextOf = await readContexts(deps, question, entries)
  // Room for one answer of each machine: nobody's is dropped because the reader is slow.
  const outbox = new Outbox<LiveAnswer>(entries.length)
  const askPart = async (machine: string, one: LiveQuestion): Promise<Part> => {
    let text: string
    try {
      text = await deps.sessions.probe(machine, one.kind, deadlineMs, signal, one.parameters)
    } catch (error) {
      const isAnswer = error instanceof RpcError && ANSWERS.includes(error.code)
      const reason = error instanceof RpcError ? error.message : 'it could not be asked'
      return {
        kind: isAnswer ? 'refused' : 'silent',
        question: one,
        reason: cutText(reason, MAX_REASON_CHARS),
      }
    }
    try {
      return { kind: 'read', question: one, reading: readAnswer(one.kind, text) }
    } catch (error) {
      const reason = `its answer is not readable: ${reasonOf(error).slice(0, 200)}`
      return { kind: 'refused', question: one, reason }
    }
  }
  const askOne = async (entry: MachineEntry) => {
    if (!deps.sessions.online(entry.id)) return outbox.push({ kind: 'silent', entry })
    const parts = await Promise.all(asked.map(one => askPart(entry.id, one)))
    if (parts.every(({ kind }) => kind === 'silent')) return outbox.push({ kind: 'silent', entry })
    return outbox.push(judge(question, entry, contextOf(entry), parts))
  }
  void Promise.allSettled(entries.map(askOne)).then(() => outbox.close())
  for await (const one of outbox) yield [one]
}

/** Of what a node did not tell the reason is told, where the expressions came to need it. */
function judge(
  question: FleetQuestion,
  entry: MachineEntry,
  context: ReturnType<Awaited<ReturnType<typeof readContexts>>>,
  parts: readonly Part[],
): Answer {
  const live = new Map<string, CelInput>()
  const truncated: string[] = []
  const reasons: string[] = []
  let facts: CelInput | undefined
  for (const part of parts) {
    if (part.kind !== 'read') {
      reasons.push(`${part.question.kind}: ${part.reason}`)
      continue
    }
    const { kind } = part.question
    if (kind === 'facts') facts = part.reading.value
    else live.set(kind, part.reading.value)
    if (part.reading.truncated) truncated.push(kind)
  }
  live.set('truncated', truncated)
  // Nothing came: whatever the expression says, nobody asked the node in vain and calls that a match.
  if (parts.length > 0 && reasons.length === parts.length) {
    return { kind: 'error', entry, reason: reasons.join('; ') }
  }
  const given = answer(question, entry, { ...context, live, ...(facts !== undefined && { facts }) })
  // Whoever looks at a list takes it for all there is.
  reasons.push(...truncated.map(kind => `${kind}: there is more than is told; ask for less`))
  if (reasons.length === 0) return given
  if (given.kind === 'error') return { ...given, reason: `${reasons.join('; ')} (${given.reason})` }
  return given.kind === 'match' ? { ...given, errors: [...reasons, ...given.errors] } : given
}
