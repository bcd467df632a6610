import { fromJsonString, type MessageInitShape } from '@bufbuild/protobuf'
import { durationMs } from '@bufbuild/protobuf/wkt'
import { cutText } from '../../shared/cut-text.ts'
import { reasonOf } from '../../shared/errors.ts'
import { SignedAuditHeadSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import type {
  GetAuditHeadsRequest,
  GetAuditHeadsResponseSchema,
} from '../../shared/gen/muster/v1/audit_pb.ts'
import { Outbox } from '../../shared/rpc/outbox.ts'
import { invalid } from '../../shared/rpc/rpc-error.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import type { Sessions } from '../sessions/sessions.ts'
import type { Caller } from './caller.ts'

const DEFAULT_DEADLINE_MS = 10_000
const LEAST_DEADLINE_MS = 1_000
const MOST_DEADLINE_MS = 60_000
const MAX_NONCE_CHARS = 64

export interface AuditHeadDeps {
  readonly directory: MachineDirectory
  readonly sessions: Pick<Sessions, 'probe' | 'online'>
}

type Item = MessageInitShape<typeof GetAuditHeadsResponseSchema>

/** Asks every machine that is wanted for the newest link it was shown. What they sign is judged by whoever asks. */
export function getAuditHeads({ directory, sessions }: AuditHeadDeps) {
  return async function* (
    { nonce, deadline }: GetAuditHeadsRequest,
    _caller: Caller,
    signal: AbortSignal,
  ): AsyncGenerator<Item> {
    if (nonce === '' || nonce.length > MAX_NONCE_CHARS)
      throw invalid(`nonce: must be 1 to ${MAX_NONCE_CHARS} characters`)
    const deadlineMs = deadline ? durationMs(deadline) : DEFAULT_DEADLINE_MS
    if (deadlineMs < LEAST_DEADLINE_MS || deadlineMs > MOST_DEADLINE_MS) {
      throw invalid('deadline: must be 1 s to 60 s')
    }
    const entries = [...directory.entries()].filter(({ state }) => state === 'active')
    const outbox = new Outbox<Item>(entries.length)
    const parameters = JSON.stringify({ nonce })
    const askOne = async (machine: string): Promise<void> => {
      const assignment = directory.assignment(machine)
      const host = assignment.kind === 'host' ? assignment.host : ''
      const silent = (reason: string) =>
        ({ item: { case: 'silent', value: { machine, host, reason } } }) as const
      if (!sessions.online(machine)) {
        outbox.push(silent('not online'))
        return
      }
      try {
        const json = await sessions.probe(machine, 'audit-head', deadlineMs, signal, parameters)
        const signed = fromJsonString(SignedAuditHeadSchema, json)
        outbox.push({ item: { case: 'head', value: { machine, host, signed } } })
      } catch (error) {
        outbox.push(silent(cutText(reasonOf(error), 300)))
      }
    }
    void Promise.allSettled(entries.map(({ id }) => askOne(id))).then(() => outbox.close())
    yield* outbox
  }
}
