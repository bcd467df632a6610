import type { StartClusterActRequest } from '../../shared/gen/muster/v1/cluster_pb.ts'
import type { StepKind } from './plan/rollout-record.ts'
import type { ClusterView, OperationView } from './plan/rollout-snapshot.ts'

/** An act of a cluster that a step asks for. Idempotent by its id. */
export interface WantedAct {
  readonly id: string
  readonly rollout: string
  readonly cluster: string
  readonly host: string
  readonly step: StepKind
  /** With `act`: the rollout's action. */
  readonly action: string
  readonly drainLimitMs: number
  /** With `act`: what was asked for, such as an operator's signed order; undefined: nothing but the action. */
  readonly asked: StartClusterActRequest | undefined
  /** The operator, or "coordinator". */
  readonly actor: string
}

/** What rollouts see of clusters, and how they ask for an act: the only door to both. */
export interface ClusterSource {
  /** Clusters that exist, by name. */
  views(nowMs: number): Promise<ReadonlyMap<string, ClusterView>>
  /** What became of acts, by id; one that is missing was never asked for. */
  acts(ids: readonly string[]): Promise<ReadonlyMap<string, OperationView>>
  /** Asks for an act; asked again with the same id it is the same act. A text is why it cannot be asked for. */
  ask(act: WantedAct): Promise<string | undefined>
  /** By cluster the machines whose next word rollouts wait for, and no others: each time all of them. */
  follow(machines: ReadonlyMap<string, ReadonlySet<string>>): void
}

/** A coordinator without clusters. */
export const NO_CLUSTERS: ClusterSource = {
  views: async () => new Map(),
  acts: async () => new Map(),
  ask: async ({ cluster }) => `there is no cluster ${cluster}`,
  follow() {},
}
