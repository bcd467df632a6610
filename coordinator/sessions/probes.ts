import { status } from '@grpc/grpc-js'
import type { ProbeAnswer } from '../../shared/gen/muster/v1/agent_pb.ts'
import { randomId } from '../../shared/ids.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'
import { durationFromMs } from '../../shared/time.ts'
import type { LiveSession } from './live-session.ts'

const MAX_ANSWER_CHARS = 256 * 1024

export interface Question {
  readonly kind: string
  /** JSON text; empty: the kind needs to know nothing. */
  readonly parameters: string
  readonly deadlineMs: number
}

interface PendingProbe {
  readonly machine: string
  resolve(json: string): void
  reject(error: Error): void
}

/** A node has less than the whole: that it could not find out in time is an answer, too, and must still arrive. */
function timeOfNode(deadlineMs: number): number {
  return Math.max(Math.round(deadlineMs * 0.8), deadlineMs - 1_000)
}

/**
 * Questions that live machines were asked and have not answered.
 * INVARIANTS: each is settled once: by its machine's answer, by its deadline, by its asker, or by the end of the session;
 * nobody answers for another machine.
 */
export class Probes {
  readonly #pending = new Map<string, PendingProbe>()

  /** Asks. Rejects when the machine does not answer in time, could not run it, or takes no message. */
  ask(
    session: LiveSession,
    { kind, parameters, deadlineMs }: Question,
    signal?: AbortSignal,
  ): Promise<string> {
    const probeId = randomId()
    return new Promise((resolve, reject) => {
      const settle = () => {
        clearTimeout(timer)
        signal?.removeEventListener('abort', onAbort)
        this.#pending.delete(probeId)
      }
      const fail = (error: Error) => {
        settle()
        reject(error)
      }
      const onAbort = () => fail(new RpcError(status.CANCELLED, 'cancelled'))
      const timer = setTimeout(
        () => fail(new RpcError(status.DEADLINE_EXCEEDED, `no answer within ${deadlineMs} ms`)),
        deadlineMs,
      )
      signal?.addEventListener('abort', onAbort, { once: true })
      this.#pending.set(probeId, {
        machine: session.machine,
        resolve: json => {
          settle()
          resolve(json)
        },
        reject: fail,
      })
      const sent = session.send({
        message: {
          case: 'probe',
          value: { probeId, kind, parameters, deadline: durationFromMs(timeOfNode(deadlineMs)) },
        },
      })
      if (!sent) fail(new RpcError(status.UNAVAILABLE, 'the machine does not take what it is sent'))
    })
  }

  /** Takes an answer. One that comes too late, or to somebody else's question, is nobody's. */
  answer(machine: string, { probeId, json, error }: ProbeAnswer): void {
    const probe = this.#pending.get(probeId)
    if (probe?.machine !== machine) return
    if (error) probe.reject(new RpcError(status.FAILED_PRECONDITION, error))
    else if (json.length > MAX_ANSWER_CHARS)
      probe.reject(new RpcError(status.OUT_OF_RANGE, 'answer over 256 KiB'))
    else probe.resolve(json)
  }

  /** The machine has no session any more. */
  left(machine: string): void {
    for (const probe of [...this.#pending.values()]) {
      if (probe.machine === machine) probe.reject(new RpcError(status.UNAVAILABLE, 'the session ended'))
    }
  }
}
