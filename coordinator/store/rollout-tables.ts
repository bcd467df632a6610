import type { ColumnType, Generated } from 'kysely'

/** Milliseconds since 1970, UTC. */
type Millis = number
type Bytes = ColumnType<Buffer, Uint8Array, Uint8Array>

/** Hard: what operators asked for. A lost one is not begun again by anything. */
export interface RolloutsTable {
  id: string
  /** As its sender named it, so that one sent twice counts once. */
  request: string
  /** SHA-256 of what was asked for. */
  intent: string
  action: string
  /** Serialised StartRolloutRequest: what was asked for, whole. */
  asked: Bytes
  /** 0: the action has none. */
  revision: number
  manifest_digest: string
  /** JSON: settings in force, frozen at the start. */
  settings: string
  /** running, paused, ending, succeeded, failed or aborted. */
  state: string
  /** How it ends when it is ending: failed or aborted; empty: not decided. */
  ends_as: string
  reason: string
  why: string
  started: Millis
  started_by: string
  ended: Millis | null
  /** The rollout that it takes back; empty: none. */
  reverts: string
  /** JSON array of rollouts it waits for. */
  after: string
  /** Grows with each write: compare and set. */
  generation: number
}

/** Hard: the members of a rollout as frozen at its start, and how far each is. */
export interface RolloutHostsTable {
  rollout: string
  host: string
  /** The machine it was at the start; empty: none was bound. */
  machine: string
  /** Empty: none, or it had not joined at the start and has not since. */
  cluster: string
  role: string
  /** Its place in the order, from 0. */
  position: number
  /** JSON: what the planner keeps of it. */
  record: string
  /** JSON array of what it waits for, as last told. */
  waits: string
  /** How it ended: done, failed or left; empty: the rollout is not over. */
  ended_as: string
}

/**
 * Hard: steps that were granted. A row is written in the transaction that writes the order it grants, so a step is granted
 * once however often anything is killed. What became of it is read from the operation or the act itself.
 */
export interface RolloutGrantsTable {
  id: Generated<number>
  rollout: string
  host: string
  step: string
  /** From 1. */
  attempt: number
  machine: string
  granted: Millis
  /** The operation or act that does it; empty: the coordinator itself. */
  operation: string
  /** When it was closed; null: it is under way. */
  closed: Millis | null
  /** done, failed or given-up; empty: it is under way. */
  outcome: string
  reason: string
}

/** Hard: gates that an operator opened. */
export interface RolloutOverridesTable {
  rollout: string
  host: string
  gate: string
  at: Millis
  by_whom: string
  why: string
}

/** Hard: hosts that rollouts pass by. */
export interface HostLocksTable {
  host: string
  why: string
  by_whom: string
  at: Millis
}

/** Hard: hosts that are kept at a revision. */
export interface HostPinsTable {
  host: string
  revision: number
  why: string
  by_whom: string
  at: Millis
  until_at: Millis
}
