import { fromJsonString } from '@bufbuild/protobuf'
import type { Clock } from '../../shared/clock.ts'
import { reasonOf } from '../../shared/errors.ts'
import { GatesAnswerSchema } from '../../shared/gen/muster/v1/probe_pb.ts'
import type { Logger } from '../../shared/log.ts'
import type { Sessions } from '../sessions/sessions.ts'
import type { GatesView } from './plan/rollout-snapshot.ts'

/** A script may take a while; who takes longer has not answered. */
const DEADLINE_MS = 60_000
/** How long after an answer the same host is asked again, while it is waited for. */
const AGAIN_MS = 5_000
/** Hosts that are asked at the same time. */
const MOST_ASKED = 50
const MAX_REASON_CHARS = 300

export interface GateQuestionsDeps {
  readonly sessions: Pick<Sessions, 'probe'>
  readonly clock: Clock
  readonly log: Logger
  /** An answer came. */
  readonly answered: () => void
}

/**
 * Asks hosts for their gates while a rollout waits for nothing else of them. In memory alone: after a start everybody is asked anew.
 * INVARIANT: what a host has not said since it was asked is no answer, and what it cannot say is none that opens anything.
 */
export class GateQuestions {
  readonly #deps: GateQuestionsDeps
  readonly #answers = new Map<string, GatesView>()
  readonly #asking = new Set<string>()
  readonly #askedMs = new Map<string, number>()

  constructor(deps: GateQuestionsDeps) {
    this.#deps = deps
  }

  /** The newest answers, by machine. */
  answers(): ReadonlyMap<string, GatesView> {
    return new Map(this.#answers)
  }

  /** The machines whose gates are waited for, in the order of their turns, and no others: each time all of them. */
  follow(machines: ReadonlySet<string>, signal?: AbortSignal): void {
    for (const machine of this.#answers.keys()) if (!machines.has(machine)) this.#answers.delete(machine)
    for (const machine of this.#askedMs.keys()) if (!machines.has(machine)) this.#askedMs.delete(machine)
    const nowMs = this.#deps.clock.now().getTime()
    for (const machine of machines) {
      if (this.#asking.size >= MOST_ASKED) return
      const beforeMs = this.#askedMs.get(machine)
      if (this.#asking.has(machine) || (beforeMs !== undefined && nowMs - beforeMs < AGAIN_MS)) continue
      this.#asking.add(machine)
      void this.#ask(machine, nowMs, signal)
    }
  }

  async #ask(machine: string, askedMs: number, signal?: AbortSignal): Promise<void> {
    const { sessions, log, answered } = this.#deps
    this.#askedMs.set(machine, askedMs)
    let problem: string | undefined
    try {
      problem = problemOf(await sessions.probe(machine, 'gates', DEADLINE_MS, signal))
    } catch (error) {
      problem = `its gates could not be asked: ${reasonOf(error).slice(0, MAX_REASON_CHARS)}`
      log.debug({ machine, reason: problem }, 'gates not asked')
    }
    this.#asking.delete(machine)
    // Whom nobody waits for any more may have been changed since.
    if (!this.#askedMs.has(machine)) return
    this.#answers.set(machine, { askedMs, problem })
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
  return `gate ${first.name} is ${first.verdict}: ${first.reason.slice(0, MAX_REASON_CHARS)}${more}`
}
