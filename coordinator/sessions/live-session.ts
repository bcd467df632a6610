import type { MessageInitShape } from '@bufbuild/protobuf'
import { status } from '@grpc/grpc-js'
import type { SessionResponseSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import type { Encoded } from '../../shared/rpc/definition.ts'
import { Outbox } from '../../shared/rpc/outbox.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'

export type SessionMessage = MessageInitShape<typeof SessionResponseSchema>

/** Messages that may wait for one machine; one that takes fewer than it is sent loses its session. */
const OUTBOX_LIMIT = 256

/** One stream of one running agent. */
export class LiveSession {
  readonly machine: string
  readonly instance: string
  /** The boot that its agent said it runs in. */
  bootId = ''
  readonly address: string
  readonly outbox = new Outbox<SessionMessage | Encoded>(OUTBOX_LIMIT)
  /** Milliseconds; when it was opened. */
  readonly startedMs: number
  /** Milliseconds; when the newest message arrived. */
  lastMessageMs: number
  /** How many messages arrived. */
  messages = 0
  /** Milliseconds; when the certificate it came with ends. TLS looks at that only when a connection begins. */
  notAfterMs = Number.POSITIVE_INFINITY
  /** Pin of the authority that made that certificate. */
  issuer: string | undefined
  /** Another holder of the key is connected and the dispute is not settled: nothing is sent that acts. */
  disputed = false
  /** Host and group last told, as one text, so that a change is told and nothing else. */
  assignment: string | undefined
  #sentOrders: Set<string> | undefined

  constructor(machine: string, instance: string, address: string, nowMs: number) {
    this.machine = machine
    this.instance = instance
    this.address = address
    this.startedMs = nowMs
    this.lastMessageMs = nowMs
  }

  send(message: SessionMessage | Encoded): boolean {
    if (this.outbox.push(message)) return true
    if (!this.outbox.closed) {
      this.end(status.RESOURCE_EXHAUSTED, 'the machine does not take what it is sent')
    }
    return false
  }

  /** Whether this order was not yet written to this session; true only once. */
  firstTime(operation: string): boolean {
    this.#sentOrders ??= new Set()
    if (this.#sentOrders.has(operation)) return false
    this.#sentOrders.add(operation)
    return true
  }

  end(code: status, reason: string): void {
    this.outbox.fail(new RpcError(code, reason))
  }
}
