import { fromJsonString } from '@bufbuild/protobuf'
import type { Clock } from '../../shared/clock.ts'
import { cutText } from '../../shared/cut-text.ts'
import { reasonOf } from '../../shared/errors.ts'
import { GatesAnswerSchema } from '../../shared/gen/muster/v1/probe_pb.ts'
import type { Logger } from '../../shared/log.ts'
import type { Sessions } from '../sessions/sessions.ts'
import type { GatesView } from './plan/rollout-snapshot.ts'

/** Hosts that are asked at the same time. */
const MOST_ASKED = 50
const MAX_REASON_CHARS = 500

export interface GateQuestionsDeps {
  readonly sessions: Pick<Sessions, 'probe'>
  readonly clock: Clock
  readonly log: Logger
  /** An answer came. */
  readonly answered: () => void
}

/** Who is asked for which gates. */
export interface GateQuestion {
  readonly machine: string
  readonly kind: 'gates' | 'jobs'
  /** JSON text; empty: none. Answers to another question do not count. */
  readonly parameters: string
  /** Who takes longer has not answered. */
  readonly deadlineMs: number
  /** How long after it was asked it is asked again, while it is waited for. */
  readonly againMs: number
  /** What is asked for, as people are told: "its gates". */
  readonly what: string
}

/** An answer, and to which question. */
export interface GateAnswer extends GatesView {
  readonly parameters: string
}

/**
 * Asks for gates while a rollout waits for nothing else. In memory alone: after a start everybody is asked anew.
 * INVARIANT: what a host has not said since it was asked is no answer, and what it cannot say is none that opens anything.
 */
export class GateQuestions {
  readonly #deps: GateQuestionsDeps
  readonly #answers = new Map<string, GateAnswer>()
  readonly #asking = new Set<string>()
  readonly #asked = new Map<string, { readonly atMs: number; readonly parameters: string }>()

  constructor(deps: GateQuestionsDeps) {
    this.#deps = deps
  }

  /** The newest answers, by subject: a host's machine, or a cluster. */
  answers(): ReadonlyMap<string, GateAnswer> {
    return new Map(this.#answers)
  }

  /** By subject what is waited for, in the order of their turns, and nothing else: each time all of it. */
  follow(questions: ReadonlyMap<string, GateQuestion>, signal?: AbortSignal): void {
    for (const [subject, { parameters }] of this.#asked) {
      if (questions.get(subject)?.parameters === parameters) continue
      this.#asked.delete(subject)
      this.#answers.delete(subject)
    }
    const nowMs = this.#deps.clock.now().getTime()
    for (const [subject, question] of questions) {
      if (this.#asking.size >= MOST_ASKED) return
      const before = this.#asked.get(subject)
      if (this.#asking.has(subject) || (before && nowMs - before.atMs < question.againMs)) continue
      this.#asking.add(subject)
      void this.#ask(subject, question, nowMs, signal)
    }
  }

  async #ask(subject: string, question: GateQuestion, atMs: number, signal?: AbortSignal): Promise<void> {
    const { sessions, log, answered } = this.#deps
    const { machine, kind, parameters, deadlineMs, what } = question
    const asked = { atMs, parameters }
    this.#asked.set(subject, asked)
    let problem: string | undefined
    try {
      problem = problemOf(await sessions.probe(machine, kind, deadlineMs, signal, parameters))
    } catch (error) {
      problem = `${what} could not be asked: ${cutText(reasonOf(error), MAX_REASON_CHARS)}`
      log.debug({ machine, kind, reason: problem }, 'gates not asked')
    }
    this.#asking.delete(subject)
    // Whom nobody waits for any more may have been changed since.
    if (this.#asked.get(subject) !== asked) return
    this.#answers.set(subject, { askedMs: atMs, problem, parameters })
    answered()
  }
}

/** Why the gates of a host do not let it be touched; undefined: all of them are healthy. Throws where the answer is none. */
export function problemOf(text: string): string | undefined {
  const { gates } = fromJsonString(GatesAnswerSchema, text, { ignoreUnknownFields: true })
  const bad = gates.filter(({ verdict }) => verdict !== 'healthy')
  const [first] = bad
  if (first === undefined) return undefined
  const more = bad.length > 1 ? ` and ${bad.length - 1} more` : ''
  return `gate ${first.name} is ${first.verdict}: ${cutText(first.reason, MAX_REASON_CHARS)}${more}`
}
