import type { ColumnType, Generated } from 'kysely'
import type {
  ClusterActsTable,
  ClusterAttemptsTable,
  ClusterClearsTable,
  ClusterCordonsTable,
  ClusterJoinsTable,
  ClusterLeavesTable,
  ClusterLeftTable,
  ClusterNodesTable,
  ClustersTable,
} from './cluster-tables.ts'
import type {
  HostLocksTable,
  HostPinsTable,
  RolloutGrantsTable,
  RolloutHostsTable,
  RolloutOverridesTable,
  RolloutsTable,
} from './rollout-tables.ts'

/** Milliseconds since 1970, UTC. */
type Millis = number
/** 0 or 1. */
type Flag = number
type Bytes = ColumnType<Buffer, Uint8Array, Uint8Array>
type NullableBytes = ColumnType<Buffer | null, Uint8Array | null, Uint8Array | null>

/** Facts about the store itself: `fleet_id`, `store_id`. */
export interface MetaTable {
  key: string
  value: string
}

/** Every key that ever asked to enrol and was not forgotten. */
export interface MachinesTable {
  /** SHA-256 of the public key. */
  id: string
  /** pending, enrolled, active, rejected, evicted, banned. */
  state: string
  public_key: Bytes
  first_seen: Millis
  last_seen: Millis
  address: string
  /** "token ID", "rule GROUP", "operator NAME"; empty while it waits. */
  admitted_by: string
  admitted_at: Millis | null
  /** Labels from token or operator; JSON object of strings. */
  labels: string
  /** Digest of the newest facts; empty: none yet. */
  facts_digest: string
  /** Claimed identity, from the newest facts; empty where absent. */
  serial: string
  uuid: string
  product: string
  /** SHA-256 over the sorted serials of the disks; empty without any. */
  disks_digest: string
  /** JSON arrays of the claimed permanent addresses and disk serials. */
  macs: string
  disk_serials: string
  /** JSON array, from the newest facts. */
  reboot_reasons: string
  /** JSON array of machines with the same hardware that a person looked at and let be. */
  accepted: string
  simulated: Flag
  agent_version: string
  certificate_not_after: Millis | null
  /** Pin of the authority that issued its newest certificate; empty: it has none. */
  certificate_issuer: string
  trust_number: number
  trust_digest: string
  trust_first_use: Flag
  /** Digest of the set that an operator confirmed for it; empty: none. */
  trust_confirmed: string
  /** What the last session said; going backwards is held. */
  boot_count: number
  boot_id: string
  journal_sequence: number
  /** Newest record of its journal that was acknowledged to it, which never falls; null: from before that was kept. */
  acknowledged: number | null
  highest_revision: number
  highest_digest: string
  /** Revision of the newest operation that succeeded; 0: none. */
  applied_revision: number
  /** When it was evicted; tokens made before do not let it back in. */
  evicted_at: Millis | null
  /** The host it last acted as, by its own word. */
  acting_host: string
  /** JSON array: what the node says it may be ordered to do. */
  allowed: string
  /** /etc/machine-id, from the newest facts; empty where absent. */
  machine_id: Generated<string>
  /** Why the node obeys nothing; meaningful while `held_since` is set. */
  held_reason: Generated<string>
  held_since: Millis | null
  /** How many systems failed there and are not tried again. */
  quarantined: Generated<number>
  /** Serialised NodeStatus; null: it has not said. */
  node_status: NullableBytes
  /** Grows with each change of state: compare and set. */
  generation: number
}

/** Sets of facts, newest last; bounded by age and number. */
export interface FactsTable {
  machine: string
  digest: string
  at: Millis
  facts: Bytes
}

/** What a person must look at, one of a class a machine. */
export interface ConditionsTable {
  machine: string
  /** clone, collision, went-back, clock, refused, .... */
  class: string
  reason: string
  since: Millis
}

export interface TokensTable {
  id: string
  /** SHA-256 of the secret; the secret itself is never kept. */
  secret_hash: string
  uses: number
  used: number
  expires: Millis
  created: Millis
  created_by: string
  labels: string
  /** The host its one machine becomes; empty: none. */
  host: string
  revoked: Flag
}

export interface TokenUsesTable {
  token: string
  machine: string
  at: Millis
}

/** Hosts bound to machines by hand or by a token's word (loose). Bindings by the file are computed. */
export interface BindingsTable {
  host: string
  machine: string
  bound_by: string
  at: Millis
}

export interface OperatorsTable {
  name: string
  /** SHA-256 of the public key. */
  id: string
  created: Millis
  not_after: Millis
  /** Pin of the authority that issued its certificate. */
  issuer: string
  removed: Flag
}

export interface TrustSetsTable {
  number: number
  digest: string
  envelope: Bytes
  at: Millis
}

export interface RevisionsTable {
  number: number
  manifest_digest: string
  envelope: Bytes
  tree_digest: string
  tree_length: number
  created: Millis
  expires: Millis
  published: Millis
  published_by: string
  /** JSON array: ids of the trusted keys whose signatures were good when it was published. */
  signers: string
}

/** Serialised targets by their digest; shared between revisions. */
export interface TargetsTable {
  digest: string
  target: Bytes
}

export interface RevisionTargetsTable {
  revision: number
  /** Exactly one of host and group_name is not empty. */
  host: string
  group_name: string
  digest: string
}

export interface OperationsTable {
  id: string
  machine: string
  host: string
  revision: number
  manifest_digest: string
  ordered: Millis
  ordered_by: string
  expires: Millis
  /** When the order was first written to a session; null: not yet. */
  delivered: Millis | null
  /** Number of the newest phase. */
  phase: number
  /** Serialised Outcome; null while it runs. Written once. */
  outcome: NullableBytes
  /** Number of the outcome's class; 0 while it runs. */
  outcome_class: number
  ended: Millis | null
  /** apply, plan, rollback, reboot, hold, resume, retry. */
  action: Generated<string>
  /** Serialised Order that carries the action alone; null: go to the revision. */
  order_action: ColumnType<Buffer | null, Uint8Array | null | undefined, Uint8Array | null>
  /** Of a rollback: the operation whose system is meant; empty: it is none. */
  rollback_to: Generated<string>
  /** Of a rollback: the system before that operation, instead of the one it reached. */
  rollback_before: Generated<Flag>
  /** Instance of the agent that was first seen to arm or activate; only another one may confirm. Empty: not seen. */
  activated_by: Generated<string>
  /** When the coordinator told the node that it sees it. Written once. */
  confirmed: Millis | null
  /** Serialised Plan; null: not known. */
  plan: ColumnType<Buffer | null, Uint8Array | null | undefined, Uint8Array | null>
  /** Serialised SignedOutcome whose signature is good; null: none. Written once, with the outcome. */
  signed_outcome: ColumnType<Buffer | null, Uint8Array | null | undefined, Uint8Array | null>
  /** The outcome came under a signature that is not good. */
  badly_signed: Generated<Flag>
  /** The order is not sent before; 0: at once. */
  not_before: Generated<Millis>
  /** The operation that it tries again; empty: none. */
  retry_of: Generated<string>
}

export interface OperationPhasesTable {
  operation: string
  sequence: number
  /** Serialised PhaseRecord. */
  record: Bytes
}

/** Build output, in pieces as they came. */
export interface LogChunksTable {
  operation: string
  first: number
  count: number
  dropped: number
  /** JSON array of lines. */
  lines: string
  at: Millis
}

/** Orders by the id their sender gave them, so that one sent twice counts once. */
export interface RequestsTable {
  id: string
  /** SHA-256 of what was asked for. */
  intent: string
  /** JSON array of operation ids. */
  operations: string
  at: Millis
}

export interface EventsTable {
  /** One more than the newest: the number is part of the hash. */
  id: number
  at: Millis
  class: string
  machine: string
  host: string
  reason: string
  actor: string
  /** Hash of the event before it, and its own: see shared/audit/event-chain.ts. */
  previous: string
  hash: string
}

/** One schema for SQLite and PostgreSQL. */
export interface Database {
  meta: MetaTable
  machines: MachinesTable
  facts: FactsTable
  conditions: ConditionsTable
  tokens: TokensTable
  token_uses: TokenUsesTable
  bindings: BindingsTable
  operators: OperatorsTable
  trust_sets: TrustSetsTable
  revisions: RevisionsTable
  targets: TargetsTable
  revision_targets: RevisionTargetsTable
  operations: OperationsTable
  operation_phases: OperationPhasesTable
  log_chunks: LogChunksTable
  requests: RequestsTable
  events: EventsTable
  clusters: ClustersTable
  cluster_joins: ClusterJoinsTable
  cluster_clears: ClusterClearsTable
  cluster_leaves: ClusterLeavesTable
  cluster_left: ClusterLeftTable
  cluster_attempts: ClusterAttemptsTable
  cluster_nodes: ClusterNodesTable
  cluster_acts: ClusterActsTable
  cluster_cordons: ClusterCordonsTable
  rollouts: RolloutsTable
  rollout_hosts: RolloutHostsTable
  rollout_grants: RolloutGrantsTable
  rollout_overrides: RolloutOverridesTable
  host_locks: HostLocksTable
  host_pins: HostPinsTable
}
