/** Milliseconds since 1970, UTC. */
type Millis = number
/** 0 or 1. */
type Flag = number

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
}
