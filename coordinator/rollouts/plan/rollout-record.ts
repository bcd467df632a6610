import type { Amount } from '../../../shared/rollout/amount.ts'
import type { FailurePolicy } from '../../../shared/rollout/rollout-bounds.ts'

/** What rollouts do. Everything that disrupts a host is one of these. */
export const ROLLOUT_ACTIONS = [
  ...['apply', 'rollback', 'reboot', 'restart', 'upgrade'],
  ...['drain', 'uncordon', 'leave', 'rotate', 'restore', 'wipe'],
] as const
export type RolloutAction =
  | 'apply'
  | 'rollback'
  | 'reboot'
  | 'restart'
  | 'upgrade'
  | 'drain'
  | 'uncordon'
  | 'leave'
  | 'rotate'
  | 'restore'
  | 'wipe'

/** Actions that servers of a cluster, or its machines as its members, do: acts of the cluster. */
export const CLUSTER_ACTIONS = ['drain', 'uncordon', 'leave', 'rotate', 'restore', 'wipe'] as const

export function isClusterAction(action: string): action is (typeof CLUSTER_ACTIONS)[number] {
  return CLUSTER_ACTIONS.some(known => known === action)
}

/** What is done to a host, one after the other, each with a grant of its own. `act` is the action itself. */
export type StepKind = 'prefetch' | 'snapshot' | 'drain' | 'act' | 'prove' | 'soak' | 'uncordon'

/** What was written of a rollout: all that was decided of it, and nothing that is only seen. */
export interface RolloutRecord {
  readonly id: string
  readonly action: RolloutAction
  /** `dead`: a leave of a machine that is gone; `tokens`: a rotation that restarts nothing; missing: as the action says. */
  readonly how?: 'dead' | 'tokens' | undefined
  /** 0: the action has none. */
  readonly revision: number
  readonly state: 'running' | 'paused' | 'ending'
  /** How it ends, once it is ending. */
  readonly endsAs: 'failed' | 'aborted' | undefined
  readonly startedMs: number
  readonly settings: FrozenSettings
  /** Rollouts that must have succeeded before. */
  readonly after: readonly string[]
  /** The rollout that it takes back, which must be over before; undefined: none. */
  readonly reverts: string | undefined
  /** In the order of their turns. Frozen at the start. */
  readonly hosts: readonly HostRecord[]
  /** "host gate" of every gate that an operator opened. */
  readonly overrides: ReadonlySet<string>
  /** The same: when each was opened. */
  readonly overriddenMs?: ReadonlyMap<string, number>
}

/** Settings in force for one rollout; frozen at its start. */
export interface FrozenSettings {
  /** Of the workers of a cluster. */
  readonly maxUnavailable: Amount
  /** Of the hosts outside of all clusters. */
  readonly maxUnavailableAlone: Amount
  readonly soakMs: number
  readonly canarySoakMs: number
  readonly onFailure: FailurePolicy
  readonly maxFailures: number | undefined
  readonly spread: string | undefined
  readonly drainLimitMs: number
  /** Fetch and build before anything is disrupted. */
  readonly prefetch: boolean
  /**
   * Hosts were named one by one by the operator who waits for them. Outside of clusters their orders lie ready for a machine that is away,
   * and those who are off by themselves and were not named use up no budget, which is recorded. Every other gate is as for everybody.
   */
  readonly direct: boolean
  /** How long a host that is away is waited for when nothing else is left to do. */
  readonly awayMs: number
}

export interface HostRecord {
  readonly host: string
  /** The machine it was when the rollout began; undefined: none was bound. */
  readonly machine: string | undefined
  /** Undefined: none, or it runs nothing of it yet: it is placed there when it has joined, and the action was not begun. */
  readonly cluster: string | undefined
  readonly server: boolean
  readonly canary: boolean
  /** Hosts that must be done before. */
  readonly after: readonly string[]
  /** Undefined: that of the rollout. */
  readonly drainLimitMs: number | undefined
  /** How often its machine had booted when the rollout began, as it counts; undefined: not known. */
  readonly boots?: number | undefined
  /** Oldest first. */
  readonly grants: readonly Grant[]
}

/** A step that was granted. */
export interface Grant {
  /** Of its row. */
  readonly id: number
  readonly step: StepKind
  /** From 1. */
  readonly attempt: number
  readonly grantedMs: number
  /** The operation or act that does it; empty: the coordinator itself. */
  readonly operation: string
  /** Undefined: it is under way. */
  readonly end: GrantEnd | undefined
}

export interface GrantEnd {
  /** Skipped: it was not needed. Again: it did not hold, and is granted anew. */
  readonly outcome: 'done' | 'failed' | 'skipped' | 'again'
  readonly reason: string
  readonly atMs: number
}
