import type { JsonObject } from '../../shared/read-value.ts'
import type { JobGate } from '../../shared/revision/clusters.ts'
import type { Finding } from '../gates/gate-answer.ts'
import type { ClusterFacts, Distribution, NodeRole } from './cluster-facts.ts'
import type { SeenMember } from './etcd/member.ts'
import type { Cordoned } from './kubernetes/cordon.ts'
import type { DrainPolicy } from './kubernetes/evictable-pods.ts'
import type { ManifestSet, PruneEnd } from './kubernetes/manifests.ts'
import type { NodeEvidence } from './kubernetes/read-evidence.ts'
import type { SeenNode } from './kubernetes/see-nodes.ts'
import type { WaitOptions } from './kubernetes/wait-options.ts'
import type { CertificateEnd } from './node/certificates.ts'
import type { DiskData } from './node/disk-data.ts'
import type { LostDatastore } from './node/lost-datastore.ts'
import type { Shortfall } from './node/preconditions.ts'
import type { ServiceState } from './node/services.ts'
import type { Result } from './result.ts'

/**
 * What the agent does to Kubernetes on its machine, the same for every distribution.
 *
 * INVARIANTS of every driver: an act can be killed between any two lines and is called again, then it goes on; nothing is
 * done for being told twice; a secret travels by standard input and root-only files; no wait is longer than its deadline, and
 * a wait whose time is over is a failure; what cannot be read is a failure and never an empty answer. The acts of `cluster`
 * work on servers only: workers have no administrator's access.
 */
export interface ClusterDriver {
  readonly distribution: Distribution
  readonly facts: ClusterFacts
  /** The name of this machine's node. */
  readonly nodeName: string

  /** What is missing on this machine for founding or joining; empty: nothing. Changes nothing. */
  checkPreconditions(signal?: AbortSignal): Promise<readonly Shortfall[]>
  readState(signal?: AbortSignal): Promise<DriverState>

  /** Founds the cluster on this machine, so that servers can be added to it later. Refused where any cluster's data lies. */
  found(operation: string, options: WaitOptions): Promise<Result<Joined>>
  /** Joins with a secret that a server minted. Afterwards a spent one of the same form takes its place. */
  join(operation: string, secret: JoinSecret, options: WaitOptions): Promise<Result<Joined>>
  /**
   * Takes in a node of a running cluster as it is, so that it comes up at a boot without anybody; restarts nothing. Refused
   * where the data on the disk is of another authority.
   */
  adopt(authority: string): Promise<Result<Joined>>
  /**
   * Stops a server that came back with data from before its cluster was set back to a snapshot, for good: it starts no more until it is
   * wiped. Refused unless another server of its authority lists members of the datastore without it. `restoredMs`: when that was ordered.
   */
  standDown(restoredMs: number, options: WaitOptions): Promise<Result<void>>
  /** Takes this machine's own server out of its cluster; its data is then of no more use, and is taken away by `wipe`. */
  leave(operation: string, options: WaitOptions): Promise<Result<void>>
  /** Stops Kubernetes here, takes the cluster's data away, and what the agent kept for it: after it left, or before it joins anew. */
  wipe(signal?: AbortSignal): Promise<Result<void>>
  /** Takes away the copies of the datastore that were made here, with the keys of the cluster that lie beside them. */
  dropSnapshots(): Promise<Result<void>>
  /** Keeps Kubernetes down, over boots too; or lets it start again. */
  hold(held: boolean, signal?: AbortSignal): Promise<Result<void>>
  /** Stops Kubernetes and starts it anew, in the order of its units; does not wait until it is well. */
  restart(signal?: AbortSignal): Promise<Result<void>>
  certificates(): Promise<Result<readonly CertificateEnd[]>>
  /**
   * k3s' workers: has a start fetch this node's certificates anew from a server, which is the only way. Absent: what is no server
   * renews them by itself.
   */
  readonly renewByRestart?: (options: WaitOptions) => Promise<Result<void>>

  readonly cluster: ClusterActs
  /**
   * k3s' servers: does the next thing that is to be done here about a token of servers that another one makes anew, or that this one
   * left unfinished. Absent: there is nothing of the kind.
   */
  readonly followToken?: (handover: Handover, signal?: AbortSignal) => Promise<Following>
}

/** How one server of a cluster hands a secret to another over what many may read: sealed to a machine's key, signed by another's. */
export interface Handover {
  /** SHA-256 (hex) of this machine's key. */
  readonly machine: string
  /** SubjectPublicKeyInfo, DER. */
  readonly publicKey: Uint8Array
  /** The machines of the cluster's servers by the signed manifest, by their hosts; those without a key are not among them. */
  servers(): Promise<Result<ReadonlyMap<string, string>>>
  /** Refused for a key that is not that server's by the signed manifest. */
  seal(offered: {
    readonly id: string
    readonly node: string
    /** SubjectPublicKeyInfo, DER. */
    readonly key: Uint8Array
    readonly text: string
    readonly expiresMs: number
  }): Promise<Result<Uint8Array>>
  /** Refused unless a server of the signed manifest sealed it to this machine under this id. */
  open(
    id: string,
    sealed: Uint8Array,
  ): Promise<
    Result<{
      readonly text: string
      readonly expiresMs: number
      /** Says durably that it was opened here, and may not be again. */
      readonly spend: () => Promise<Result<void>>
    }>
  >
}

/** What came of one look at a token that is made anew, and when the next one is worth its while. */
export type Following =
  | { readonly kind: 'rest' }
  | { readonly kind: 'soon'; readonly step: string }
  | { readonly kind: 'later'; readonly step: string; readonly reason?: string }

/** What is done to the cluster, by way of this machine's server. */
export interface ClusterActs {
  /** Mints a secret for one machine, with a lifetime. */
  mint(request: MintRequest, signal?: AbortSignal): Promise<Result<Minted>>
  listTokens(signal?: AbortSignal): Promise<Result<readonly ListedToken[]>>
  /** Deletes a token; done when a listing made afterwards does not hold it. */
  deleteToken(id: string, signal?: AbortSignal): Promise<Result<void>>
  /** Why a machine cannot join under this name now: an older Node of another machine, its address or machine id in use. */
  checkJoiner(joiner: Joiner, signal?: AbortSignal): Promise<Result<readonly Shortfall[]>>

  /** The API server's own word that it is ready. */
  isReady(signal?: AbortSignal): Promise<boolean>
  /** Every Node object, and names that only something beside a Node object is left of. */
  nodes(signal?: AbortSignal): Promise<Result<readonly SeenNode[]>>
  readEvidence(node: string, signal?: AbortSignal): Promise<Result<NodeEvidence>>
  /** This server's own API is ready, at the wanted version, and its datastore member votes. */
  proveServer(version: string, options: WaitOptions): Promise<Result<ServerProof>>

  /** Keeps new pods away from a node for an operation; a cordon of anybody but it and the one that it takes over stays theirs. */
  cordon(node: string, operation: string, takesOver?: string, signal?: AbortSignal): Promise<Result<Cordoned>>
  drain(
    node: string,
    policy: DrainPolicy,
    options: WaitOptions,
  ): Promise<Result<{ readonly evicted: number }>>
  uncordon(node: string, operation: string, signal?: AbortSignal): Promise<Result<void>>

  members(signal?: AbortSignal): Promise<Result<readonly SeenMember[]>>
  /** Why this server may not be stopped for a while; undefined: it may. */
  whyNotStop(signal?: AbortSignal): Promise<Result<string | undefined>>
  /**
   * Takes a node out of the cluster, itself or one that is gone: its datastore member first, refused without a majority
   * afterwards, then its Node and what lies beside it. The machine's own data is taken away by `wipe` there.
   */
  removeNode(node: string, options: WaitOptions): Promise<Result<void>>

  /** A copy of the datastore with what is needed to use it, in a folder for root alone. */
  snapshot(name: string, options: WaitOptions): Promise<Result<Snapshot>>
  listSnapshots(): Promise<Result<readonly Snapshot[]>>
  /**
   * Makes this server the only one, from a snapshot. The other servers are wiped and join anew. A machine without data of any
   * cluster becomes the server by it, with the authorities that the snapshot holds.
   */
  restore(restoring: Restoring, options: WaitOptions): Promise<Result<Joined>>

  /** An administrator's kubeconfig; `server` is the address that is written into it. */
  kubeconfig(server: string, signal?: AbortSignal): Promise<Result<string>>
  /** Makes joining tokens that are out worthless. Answers what else has to be done, for people. */
  rotateTokens(rotation: TokenRotation, options: WaitOptions): Promise<Result<string>>
  /** Makes this server's certificates anew, by the same authorities; it is restarted. */
  rotateCertificates(options: WaitOptions): Promise<Result<void>>

  applyManifests(set: ManifestSet, signal?: AbortSignal): Promise<Result<PruneEnd>>
  /** Runs a Job by which the cluster is asked whether it may be touched, and takes it away again. */
  runGateJob(
    gate: Pick<JobGate, 'name' | 'deadlineMs'>,
    job: JsonObject,
    signal?: AbortSignal,
  ): Promise<Finding>
}

export interface Restoring {
  readonly operation: string
  /** Of the snapshot. */
  readonly name: string
  /** The authority that the cluster has; undefined: nobody knows any more. */
  readonly authority?: string | undefined
}

export interface TokenRotation {
  readonly operation: string
  readonly handover: Handover
}

export interface DriverState {
  readonly data: DiskData
  /** A server that has been a member is without its datastore, whatever else of `data` is there; undefined: it is not. */
  readonly lost?: LostDatastore | undefined
  /** An operation of ours that founds or joins was begun here and is not over. */
  readonly unfinished: string | undefined
  /** Kubernetes is kept down by the agent. */
  readonly held: boolean
  /** It came back with data from before its cluster was set back to a snapshot, and does not start until it is wiped. */
  readonly stoodDown?: boolean
  /**
   * The authority whose data is ours to work with: founded, joined or adopted here. undefined, or another one than the
   * data's: it is a cluster that nobody of ours may restart or take away.
   */
  readonly adopted: string | undefined
  readonly units: ReadonlyMap<string, ServiceState>
  /** Of this node; undefined: it is not found out yet. */
  readonly address: string | undefined
  /** Of /etc/machine-id; undefined: there is none. */
  readonly machineId: string | undefined
  /** The boot in which this was read; undefined: it cannot be. */
  readonly bootId: string | undefined
  /** When the kubelet that runs was started, in milliseconds since 1970 by this machine's clock; undefined: nobody can say. */
  readonly kubeletStartedMs: number | undefined
  /** What the installed program says; undefined: none is installed, or it does not answer. */
  readonly installedVersion: string | undefined
  /** Of the API server that runs here; undefined: none, or it does not answer. */
  readonly runningVersion: string | undefined
}

export interface Joined {
  /** SHA-256 (hex) of the SubjectPublicKeyInfo of the cluster's authority, as this machine has it. */
  readonly authority: string
}

/** What one machine joins with. Opaque to whoever carries it; `readJoinSecret` reads it. */
export interface JoinSecret {
  readonly distribution: Distribution
  readonly role: NodeRole
  /** Where the joiner reaches the cluster: host:port of the API server. */
  readonly server: string
  /** k3s, k0s: the token; kubernetes, components: the bootstrap token of a kubelet, "" for a server without one. */
  readonly token: string
  /** k3s servers: what agents may use. */
  readonly agentToken: string | undefined
  /** kubernetes, components: files below the folder of the authorities, by their names. */
  readonly files: ReadonlyMap<string, string>
  /** kubernetes, components: members of the datastore with the joiner, as etcd takes them. */
  readonly initialCluster: string | undefined
  /** The oldest API server that its minter knows of; missing: it did not say. */
  readonly clusterVersion?: string | undefined
}

export interface Joiner {
  readonly node: string
  readonly role: NodeRole
  readonly address: string
  /** Of /etc/machine-id; undefined: not known. */
  readonly machineId: string | undefined
}

export interface MintRequest extends Joiner {
  readonly operation: string
  readonly lifetimeMs: number
}

export interface Minted {
  readonly secret: JoinSecret
  /** By which it is deleted; "": the distribution has nothing that could be. */
  readonly tokenId: string
}

export interface ListedToken {
  readonly id: string
  /** undefined: it never ends. */
  readonly expiresMs: number | undefined
  readonly description: string
}

export interface ServerProof {
  readonly version: string
  readonly members: readonly SeenMember[]
}

export interface Snapshot {
  readonly name: string
  readonly path: string
  readonly bytes: number
  readonly madeMs: number
  /** The cluster that it is of, by its own word; undefined: it does not say. */
  readonly cluster?: string | undefined
}
