import type { ColumnType } from 'kysely'

/** Milliseconds since 1970, UTC. */
type Millis = number
/** 0 or 1. */
type Flag = number
type NullableBytes = ColumnType<Buffer | null, Uint8Array | null, Uint8Array | null>

/**
 * Hard: what was decided, once. Lost, it is not decided anew: a cluster that runs must be adopted. Everything below is of a
 * record that is read and written as a whole; `generation` says who wrote last.
 */
export interface ClustersTable {
  name: string
  /** Operations begun so far. */
  count: number
  /** ordered, failed or founded; null: nobody was told to found it. */
  founding_state: string | null
  founding_machine: string | null
  founding_host: string | null
  founding_operation: string | null
  founding_at: Millis | null
  founding_attempt: number | null
  /** SHA-256 of the SubjectPublicKeyInfo of the cluster's authority. */
  authority: string | null
  adopted: Flag
  /** The machine whose server the others join at. */
  first_server: string | null
  settled: Millis
  /** The count when its datastore was set back last; 0: never. */
  set_back: ColumnType<number, number | undefined, number>
  generation: number
}

/** Hard: whom a token was minted for, and that it is still to be deleted. Never holds anything of the secret. */
export interface ClusterJoinsTable {
  operation: string
  cluster: string
  machine: string
  host: string
  role: string
  minter: string
  at: Millis
  expires: Millis
  /** asked, minted, received or joined. */
  state: string
  joined: Millis | null
  /** The public part of the token. */
  token_id: string | null
  /** joined, failed, expired or withdrawn; null: under way. */
  ended_as: string | null
  joiner_done: Flag
  deleter: string | null
  token_gone: Flag
}

/** Hard: leftovers of reinstalled nodes that a server is taking away. */
export interface ClusterClearsTable {
  operation: string
  cluster: string
  host: string
  machine: string
  server: string
  at: Millis
}

/** Hard: what operators asked for. */
export interface ClusterLeavesTable {
  request: string
  cluster: string
  host: string
  machine: string
  server: Flag
  dead: Flag
  /** Both null: it waits for its turn. */
  operation: string | null
  executor: string | null
  failures: number
  not_before: Millis
  /** The operator's signed order, a serialised Envelope; null: none. */
  signed_order: NullableBytes
  /** When that order ends; null: it has none. */
  signed_until: Millis | null
  /** Why the last attempt came to nothing; empty: none did. */
  reason: string
}

/** Hard: hosts that left by an operator's word. */
export interface ClusterLeftTable {
  cluster: string
  host: string
  machine: string
}

/** Hard: what failed on which machine, and since when its disk is to be looked at anew. */
export interface ClusterAttemptsTable {
  cluster: string
  machine: string
  failures: number
  not_before: Millis
  over: Millis
  /** Why the last one failed; empty: it did not. */
  reason: string
  /** The count of the join that was begun for it last; 0: none was. */
  minted: ColumnType<number, number | undefined, number>
}

/** Rebuilt from agents: what each machine last said it has on its disk. What servers see is kept in memory alone. */
export interface ClusterNodesTable {
  machine: string
  /** none, cluster, unfinished or unreadable. */
  data: string
  /** The authority, the operation or the reason; empty for none. */
  detail: string
  distribution: string
  server: Flag
  version: string
  /** When the question was sent that it answers. */
  as_of: Millis
  /** The cluster that its running system is made for; empty: none. */
  part: string
}

/** Hard: what operators and revisions ask of a cluster. A kubeconfig is in no column. */
export interface ClusterActsTable {
  id: string
  /** Who asked and for what, once: "operator ID", "adopt CLUSTER MACHINE AUTHORITY", "manifests CLUSTER DIGEST". */
  request: string
  /** SHA-256 of what was asked for. */
  intent: string
  cluster: string
  /** The word of the API, or "adopt". */
  act: string
  /** What it is about; empty: the cluster. */
  host: string
  machine: string
  /** Who does it; empty: nobody yet. */
  executor: string
  executor_host: string
  /** What the executor is told now; empty: it waits. */
  operation: string
  parameter: string
  asked_by: string
  asked: Millis
  /** It ends then, whatever the executor says later; null: it waits for as long as it takes. */
  expires: Millis | null
  /** A serialised ClusterOrder with nothing but its action; null: no machine is told anything. */
  cluster_order: NullableBytes
  attempts: number
  not_before: Millis
  /** Null: it is under way. */
  ended: Millis | null
  done: Flag
  class: string
  /** Why it failed, or what it waits for. */
  reason: string
  /** A serialised ClusterStepEnded, without a kubeconfig. */
  result: NullableBytes
}

/** Hard: nodes that we cordoned, so that only such a cordon is lifted, and none is forgotten. Written before it is ordered. */
export interface ClusterCordonsTable {
  cluster: string
  host: string
  /** The act it comes from. */
  act: string
  asked_by: string
  at: Millis
}
