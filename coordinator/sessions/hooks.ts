import type { MessageInitShape } from '@bufbuild/protobuf'
import type { ChainHead } from '../../shared/audit/event-chain.ts'
import type {
  AgentEvent,
  AssignmentSchema,
  Hello,
  LogLines,
  NodeStatus,
  OperationAckSchema,
  OrderSchema,
  TrustReport,
} from '../../shared/gen/muster/v1/agent_pb.ts'
import type { ClusterReport, ClusterState } from '../../shared/gen/muster/v1/cluster_pb.ts'
import type { OperationReport } from '../../shared/gen/muster/v1/operation_pb.ts'

/** What is done about clusters with what a session brings. */
export interface ClusterHooks {
  /** The machine was welcomed, and may be sent orders. */
  began(machine: string): void
  report(machine: string, report: ClusterReport): Promise<void>
  state(machine: string, state: ClusterState): Promise<void>
}

/** What a session asks of the rest of the coordinator. */
export interface SessionHooks {
  /** Takes down what the machine said at the door. Refused: the session ends with the reason. */
  admit(machine: string, hello: Hello, address: string): Promise<SessionAdmission>
  /** Whether the machine may still speak; asked for every message, so it must be cheap. */
  allowed(machine: string): boolean
  facts(machine: string, facts: Uint8Array): Promise<{ readonly digest: string }>
  /** `instance` is that of the agent whose session it came over. */
  report(
    machine: string,
    report: OperationReport,
    instance: string,
  ): Promise<MessageInitShape<typeof OperationAckSchema>>
  status(machine: string, status: NodeStatus): Promise<void>
  log(machine: string, lines: LogLines): Promise<void>
  event(machine: string, event: AgentEvent): Promise<void>
  trust(machine: string, report: TrustReport): Promise<void>
  /** Orders the machine should have now; none while it is held or in conflict. */
  orders(machine: string): Promise<readonly MessageInitShape<typeof OrderSchema>[]>
  /** Operations of the machine without an outcome: what it is to tell of, whatever was acknowledged before. */
  open(machine: string): Promise<readonly string[]>
  /** Whether the machine is to tell of all operations that it knows: none of it is on record, or not all that it did. */
  tellAll(machine: string): Promise<boolean>
  delivered(machine: string, operations: readonly string[]): Promise<void>
  assignment(machine: string): Promise<MessageInitShape<typeof AssignmentSchema>>
  readonly clusters: ClusterHooks
  /** Two live holders of one key were found. */
  clone(machine: string, reason: string): Promise<void>
  lastSeen(batch: ReadonlyMap<string, Date>): Promise<void>
  /** How far the record of events goes, as far as machines were shown it. */
  auditHead(): ChainHead | undefined
  /** What the machine is to be told about trust at its welcome; undefined: nothing that it does not know. */
  trustNotice(machine: string): { readonly number: bigint; readonly confirmedDigest: string } | undefined
}

export type SessionAdmission =
  | {
      readonly kind: 'ok'
      /** The coordinator lacks the facts that belong to the digest in Hello. */
      readonly needFacts: boolean
      readonly protocol: number
    }
  | { readonly kind: 'refused'; readonly reason: string }
