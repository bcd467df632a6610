import type { MaintenanceWindow } from '../../../shared/rollout/maintenance-window.ts'
import type { QuorumReading } from '../../clusters/quorum.ts'
import type { Disturbance, NodeEvidence } from './new-evidence.ts'
import type { RolloutRecord } from './rollout-record.ts'

/** How a rollout stands to one that waits for it which has succeeded in the eyes of who began it, and left all its hosts behind: it has proved nothing. */
export const MOVED_NOBODY = 'moved-nobody'

/** All that a decision about rollouts rests on. */
export interface RolloutSnapshot {
  /** Those that are not over, oldest first. */
  readonly rollouts: readonly RolloutRecord[]
  /** States of the rollouts that others wait for, or `MOVED_NOBODY`; one that is missing does not exist. */
  readonly others: ReadonlyMap<string, string>
  /** Every host that a machine is, or that a rollout has, by name. */
  readonly hosts: ReadonlyMap<string, HostView>
  /** By name; of one that is missing nobody can say anything, and its hosts wait. */
  readonly clusters: ReadonlyMap<string, ClusterView>
  /** What became of the operations and acts that these rollouts granted, by id; one that is missing was not asked for yet. */
  readonly operations: ReadonlyMap<string, OperationView>
  /** Cluster to those that must be done before it. */
  readonly follows: ReadonlyMap<string, readonly string[]>
  /** Windows of hosts that have none of their own. */
  readonly windows: readonly MaintenanceWindow[]
  readonly silence: Silence
  /** By machine what its own gates said when they were last asked; undefined: nobody is asked before steps. */
  readonly gates: ReadonlyMap<string, GatesView> | undefined
  /** By cluster the Jobs that are asked before a host of it is disrupted; one that has none is missing. */
  readonly jobs: ReadonlyMap<string, JobsView>
  /** Since when this coordinator looks: what went on before was seen by nobody. */
  readonly watchedSinceMs: number
  /** Why nothing is granted at all, such as a store that is older than what its nodes report. */
  readonly halted: string | undefined
}

export interface HostView {
  readonly host: string
  /** The machine that it is now; undefined: none, or several claim it. */
  readonly machine: string | undefined
  readonly cluster: string | undefined
  readonly server: boolean
  readonly labels: Readonly<Record<string, string>>
  /** It has a session. */
  readonly connected: boolean
  /** Since when it has none; undefined: it has one, or was never seen. */
  readonly awaySinceMs: number | undefined
  /** Since when it has the session it has; undefined: it has none. */
  readonly connectedSinceMs: number | undefined
  /** Why nobody may order it anything, or it would obey nothing; undefined: nothing is in the way. */
  readonly held: string | undefined
  /** A change that no rollout gave it and that is not over; undefined: none. */
  readonly busyWith: string | undefined
  /** How often its machine has booted, as it counts; undefined: not known. */
  readonly boots?: number | undefined
  /** The system that it runs, as it last said; undefined: not known. */
  readonly system?: string | undefined
  /** What its agent takes orders for, as it said when it last connected; undefined: it never said. */
  readonly allowed?: readonly string[] | undefined
  /** There is certainly nothing to ask of its own gates; undefined: there may be. */
  readonly ungated?: boolean | undefined
  /** Revisions of what failed on it and is not tried again, and those that the node refused since because they bring the same. */
  readonly quarantined: ReadonlySet<number>
  /** Why it is locked; undefined: it is not. */
  readonly lock: string | undefined
  /** It counts until its end, whatever is read here. */
  readonly pin: { readonly revision: number; readonly why: string; readonly untilMs: number } | undefined
  /** Its own; none: those of the fleet. */
  readonly windows: readonly MaintenanceWindow[]
  /** By rollout: why it cannot be ordered its action, such as that its revision has no target for it, or that its settings cannot be read. */
  readonly refused: ReadonlyMap<string, string>
  /** By rollout: the Kubernetes that it brings; missing: it names none. */
  readonly versions: ReadonlyMap<string, string>
}

export interface ClusterView {
  readonly name: string
  /** By host. */
  readonly members: ReadonlyMap<string, MemberView>
  /** The datastore as its servers list it now. */
  readonly datastore: QuorumReading
  /** Why no server may be changed at all now; undefined: nothing. */
  readonly serverChange: string | undefined
  /** The host whose server leads the datastore, as servers last said; undefined: nobody can say. It may change at any time. */
  readonly leader: string | undefined
  /** The host of the server at which the others join; undefined: none. */
  readonly first: string | undefined
}

export interface MemberView {
  /** It runs Kubernetes of this cluster; undefined: nobody can say. */
  readonly joined: boolean | undefined
  readonly server: boolean
  /** Its Node is Ready, and its server answers if it is one; undefined: nobody can say. */
  readonly ready: boolean | undefined
  /** What is said here was asked for then, or later. */
  readonly asOfMs: number
  /** What it says it runs; undefined: not known. */
  readonly version: string | undefined
  /** The kubelet of its Node, as the servers see it; undefined: not known, or it has no Node. */
  readonly kubelet: string | undefined
  /** A server that runs no pods of anybody: in distributions whose servers have no Node there is nothing to drain. */
  readonly nodeless?: boolean
  /** The act whose cordon of ours is on it; undefined: none. */
  readonly cordonedBy: string | undefined
  /** No rollout set that cordon on its way, but an operator, or nobody knows who: rollouts leave it. */
  readonly cordonStays?: boolean | undefined
  /** By what else its Node tells of its kubelet; undefined: it has no Node, or nobody sees it. */
  readonly evidence?: NodeEvidence | undefined
}

export interface OperationView {
  readonly id: string
  /** Missing: it was given, and is not on record any more. Unwilling: its cluster would not begin it when it was last asked. */
  readonly state: 'open' | 'done' | 'failed' | 'retry' | 'missing' | 'unwilling'
  /** For people. */
  readonly reason: string
  /** When it ended. */
  readonly endedMs: number | undefined
  /** With `retry`: how many times it may be tried again altogether, and how long to wait before each. */
  readonly retryDelaysMs: readonly number[]
  /** With `failed`: the node refused it, for what it brings failed there before, under whatever number. */
  readonly quarantined?: boolean
  /** With `failed`: what ran before runs again, so that a cordon of ours can be lifted. */
  readonly untouched: boolean
  /** With an uncordon that failed: the cordon is not what was to be lifted. */
  readonly othersCordon?: boolean
  /** What it would change; undefined: not known. */
  readonly plan: PlanView | undefined
  /** With one whose host is being proved; undefined: not known. */
  readonly disturbed?: Disturbance | undefined
}

export interface PlanView {
  /** The system that ran when it was made; missing: not known. */
  readonly from?: string
  readonly reboots: boolean
  /** It stops or restarts the kubelet, the runtime or another part of Kubernetes. */
  readonly touchesKubernetes: boolean
  /** Only a reboot would reach it, and fleet file or node allow none: it would be refused. */
  readonly barred?: boolean
  /** Units that it stops, starts, restarts or reloads; and how many more are not listed. */
  readonly units?: readonly string[]
  readonly leftOut?: number
}

/** How many machines fell silent at once. */
export interface Silence {
  readonly known: number
  /** Heard of a short time ago and not connected now, other than for what we do to them. */
  readonly silent: number
  /** More than this share stops everything new. */
  readonly percent: number
}

/** The Jobs of a cluster, and what they said. */
export interface JobsView {
  /** The signed revision that names them. */
  readonly revision: number
  readonly manifestDigest: string
  /** The longest that one of them may take. */
  readonly deadlineMs: number
  /** When they were last asked; undefined: they were not, or have not answered yet. */
  readonly answer: GatesView | undefined
}

/** What the gates of the fleet directory said on a host, or Jobs in a cluster. */
export interface GatesView {
  /** When they were asked: the answer is about a moment after that. */
  readonly askedMs: number
  /** Why they do not let it be touched, or why they could not be asked; undefined: all are healthy. */
  readonly problem: string | undefined
}
