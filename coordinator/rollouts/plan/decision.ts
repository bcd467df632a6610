import type { GrantEnd, StepKind } from './rollout-record.ts'

/** What holds a host. One value serves log, answer and test. */
export interface Wait {
  readonly gate: GateName
  /** Why it is closed, one sentence. */
  readonly reason: string
  /** What would open it, one sentence. */
  readonly opens: string
  /** A host of the same rollout that must be done before. */
  readonly on?: string
  /** A host of the same rollout that failed keeps it closed, whoever else comes back. */
  readonly byFailed?: boolean
}

export const GATES = [
  ...(['halted', 'paused', 'rollout', 'cluster', 'order', 'servers', 'canary', 'budget', 'spread'] as const),
  ...([
    'silence',
    'away',
    'unbound',
    'held',
    'busy',
    'lock',
    'pin',
    'window',
    'health',
    'checks',
    'jobs',
    'quorum',
    'skew',
  ] as const),
  ...(['quarantine', 'target', 'retry', 'soak', 'unknown', 'fetching', 'given-up', 'refused'] as const),
  'allow',
] as const
export type GateName = (typeof GATES)[number]

/**
 * Gates that an operator may open for one host. Not those behind which there is nothing to decide: a machine that is away, a
 * datastore that would be left without quorum, a second server at the same time, what a node forbids, or what nobody can say.
 * `servers` is about order alone: that there is never a second server at the same time is `quorum`.
 */
export const OVERRIDABLE: readonly GateName[] = [
  ...(['rollout', 'cluster', 'order', 'servers', 'canary', 'budget', 'spread', 'silence'] as const),
  ...(['lock', 'pin', 'window', 'health', 'checks', 'jobs', 'soak', 'given-up'] as const),
]

export interface NewGrant {
  readonly rollout: string
  readonly host: string
  readonly machine: string
  readonly step: StepKind
  readonly attempt: number
  /** It is closed as it is granted: there was nothing to do. */
  readonly skipped: string | undefined
}

export interface Closing {
  readonly rollout: string
  readonly host: string
  /** Of its row. */
  readonly grant: number
  readonly end: Pick<GrantEnd, 'outcome' | 'reason'>
}

export interface RolloutMove {
  readonly rollout: string
  readonly state: 'running' | 'ending' | 'succeeded' | 'failed' | 'aborted'
  readonly endsAs: 'failed' | 'aborted' | undefined
  readonly reason: string
  /** By its failure policy, what it changed is to be taken back. */
  readonly revert: boolean
}

/** A gate that a grant goes past by a rule and not by an operator's word. It is recorded as an override is. */
export interface NewOverride {
  readonly rollout: string
  readonly host: string
  readonly gate: 'budget'
  readonly why: string
}

/** A host that has joined its cluster since its rollout began, and counts to it from now on. */
export interface Placement {
  readonly rollout: string
  readonly host: string
  readonly cluster: string
}

/** What to do now, and why everything else is not done. */
export interface Decision {
  readonly placements: readonly Placement[]
  readonly grants: readonly NewGrant[]
  /** What of these grants went past a gate. */
  readonly opened: readonly NewOverride[]
  readonly closings: readonly Closing[]
  readonly moves: readonly RolloutMove[]
  /** By rollout, then by host; a host that waits for nothing is missing. */
  readonly waits: ReadonlyMap<string, ReadonlyMap<string, readonly Wait[]>>
}
