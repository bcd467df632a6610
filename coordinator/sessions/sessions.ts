import type { MessageInitShape } from '@bufbuild/protobuf'
import type { SessionResponseSchema } from '../../shared/gen/muster/v1/agent_pb.ts'

/** As much of a session as tells which agent holds it. */
export interface SessionView {
  /** Random for each start of the agent. */
  readonly instance: string
  /** The boot it was opened in. */
  readonly bootId: string
  /** Another holder of the key is connected and the dispute is not settled. */
  readonly disputed: boolean
  /** Milliseconds; when it was opened, by the coordinator's clock. */
  readonly startedMs: number
}

/** The machines that are connected now, as the rest of the coordinator sees them. Kept in memory alone. */
export interface Sessions {
  online(machine: string): boolean
  /** Ids of all machines with a live session. */
  machines(): Iterable<string>
  count(): number
  /** The session of a machine that is acted on; undefined: it has none. */
  live(machine: string): SessionView | undefined
  /** Queues a message for a machine's session; false when it has none or its queue is full. */
  send(machine: string, message: MessageInitShape<typeof SessionResponseSchema>): boolean
  /** Ends every live session of a machine at once; it is told the reason. */
  end(machine: string, reason: string): void
  /**
   * Asks a machine something now. Rejects when it has no session, does not answer in time or could not run it.
   * `parameters`: JSON text of what the kind needs to know; empty: nothing.
   */
  probe(
    machine: string,
    kind: string,
    deadlineMs: number,
    signal?: AbortSignal,
    parameters?: string,
  ): Promise<string>
  /** When sessions of a machine began, in milliseconds, as far as this process remembers: the newest few. */
  sessionStarts(machine: string): readonly number[]
  /** When the machine's newest message arrived; undefined when it is not online. */
  lastMessage(machine: string): Date | undefined
  /** Looks at a machine anew: sends its orders and its assignment where they changed. */
  wake(machine: string): void
}
