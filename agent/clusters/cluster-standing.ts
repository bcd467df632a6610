import { create } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { Clock } from '../../shared/clock.ts'
import {
  type ClusterState,
  ClusterStateSchema,
  type NodeObject,
  type ServerView,
} from '../../shared/gen/muster/v1/cluster_pb.ts'
import { withDeadline } from '../../shared/lifecycle.ts'
import { isServerRole } from '../drivers/cluster-facts.ts'
import type { DriverReading } from '../drivers/create-driver.ts'
import type { ClusterDriver, DriverState } from '../drivers/driver.ts'
import type { SeenMember } from '../drivers/etcd/member.ts'
import { hostIn } from '../drivers/kubernetes/check-joiner.ts'
import { bareVersion } from '../drivers/kubernetes/kubelet-version.ts'
import type { SeenNode } from '../drivers/kubernetes/see-nodes.ts'
import type { DiskData } from '../drivers/node/disk-data.ts'
import type { LostDatastore } from '../drivers/node/lost-datastore.ts'
import { CertificateWatch } from './certificate-watch.ts'

interface StandingDeps {
  readonly openDriver: () => Promise<DriverReading>
  readonly readDisk: () => Promise<DiskData>
  readonly clock: Clock
  /** How long a reading may take; absent: as long as an answer. */
  readonly readingMs?: number
}

export interface SeenStanding {
  readonly state: ClusterState
  readonly distribution: string
  readonly role: string
  readonly held: boolean
  /** The authority whose data is ours. */
  readonly adopted: string | undefined
  /** It does not start: its data is from before its cluster was set back to a snapshot. */
  readonly stoodDown: boolean
}

const MAX_MEMBERS = 32
const MAX_NODES = 5_000

/** Programs of Kubernetes may hang where their server does; a question is not answered for ever, nor does the next one wait for ever. */
const ANSWER_MS = 3 * 60_000
/** So long programs have to end once nobody wants what they say. */
const REST_MS = 5_000

/**
 * What this node sees of its cluster: read anew for each question, once for all that come while another reading is under way,
 * since each reading asks several programs.
 */
export class ClusterStanding {
  readonly #deps: StandingDeps
  /** Of the agent. */
  readonly #stop: AbortSignal
  readonly #watch = new NodeWatch()
  readonly #certificates: CertificateWatch
  #running: Promise<SeenStanding> | undefined
  /** What the running one, or the last one, does: it may go on for a moment after it was given up. */
  #work: Promise<unknown> | undefined
  /** What begins when the running one is over. */
  #next: Promise<SeenStanding> | undefined
  #nodeName = ''

  constructor(deps: StandingDeps, stop: AbortSignal) {
    this.#deps = deps
    this.#stop = stop
    this.#certificates = new CertificateWatch(deps.clock)
  }

  /** Of this machine's node, as far as it was seen; "": not yet. */
  get nodeName(): string {
    return this.#nodeName
  }

  /** Rejects when the signal fires; the reading goes on for whoever else waits for it. */
  async read(requestId: string, signal: AbortSignal): Promise<ClusterState> {
    const { state } = await this.look(signal, ANSWER_MS)
    return create(ClusterStateSchema, { ...state, requestId })
  }

  /** The same for a person at this machine. */
  async look(signal: AbortSignal | undefined, deadlineMs: number): Promise<SeenStanding> {
    return await withDeadline(deadlineMs, signal, async () => await this.#afterNow())
  }

  /** A reading that begins after this call. */
  #afterNow(): Promise<SeenStanding> {
    if (!this.#running) return this.#next ?? this.#begin()
    this.#next ??= this.#running.then(
      () => this.#begin(),
      () => this.#begin(),
    )
    return this.#next
  }

  #begin(): Promise<SeenStanding> {
    this.#next = undefined
    const { readingMs = ANSWER_MS } = this.#deps
    const read = withDeadline(readingMs, this.#stop, async signal => {
      const work = this.#read(signal)
      this.#work = work
      return await work
    })
    const reading = read.finally(() => {
      if (this.#running === reading) this.#running = undefined
    })
    reading.catch(() => {}) // told to whoever waits for it; nobody may, by now
    this.#running = reading
    return reading
  }

  /** What was begun has come to rest when it resolves. */
  async idle(): Promise<void> {
    while (this.#running) await this.#running.catch(() => {})
    const rest = async () => await this.#work
    // What never ends is not waited for.
    await withDeadline(REST_MS, undefined, rest).catch(() => {})
    await this.#certificates.idle()
  }

  /** Finds out this machine's own name before anybody asks. */
  async learn(): Promise<void> {
    const reading = await this.#deps.openDriver()
    if (reading.kind === 'driver') this.#nodeName = reading.driver.nodeName
  }

  async #read(signal: AbortSignal): Promise<SeenStanding> {
    const reading = await this.#deps.openDriver()
    if (reading.kind !== 'driver') {
      const data: DiskData = reading.kind === 'unreadable' ? reading : await this.#deps.readDisk()
      const none = { distribution: '', role: '', held: false, adopted: undefined, stoodDown: false }
      return {
        ...none,
        state: create(ClusterStateSchema, { cluster: '', data: dataOf(data, undefined, undefined, '') }),
      }
    }
    const { driver } = reading
    this.#nodeName = driver.nodeName
    const state = await driver.readState(signal)
    const view = state.runningVersion === undefined ? undefined : await this.#view(driver, signal)
    const { cluster, distribution, role } = driver.facts
    const { held, adopted, stoodDown = false } = state
    // A cluster that was not adopted may have its certificates elsewhere, and none of our commands mends them.
    const certificateEnds =
      state.data.kind === 'cluster' && state.data.authority === adopted
        ? this.#certificates.look(state.data.authority, async () => await driver.certificates())
        : undefined
    const told = create(ClusterStateSchema, {
      cluster,
      data: dataOf(state.data, state.unfinished, state.lost, distribution),
      version: versionOf(driver, state),
      address: state.address ?? '',
      machineId: state.machineId ?? '',
      bootId: state.bootId ?? '',
      ...(state.kubeletStartedMs !== undefined && {
        kubeletStarted: timestampFromMs(state.kubeletStartedMs),
      }),
      installedVersion: state.installedVersion ?? '',
      ...(view && { view }),
      ...(certificateEnds && { certificateEnds }),
      snapshots: await carriedHere(driver, state),
    })
    return { distribution, role, held, adopted, stoodDown, state: told }
  }

  /** undefined: the server does not answer, or not to all that was asked. */
  async #view(driver: ClusterDriver, signal: AbortSignal): Promise<ServerView | undefined> {
    if (!isServerRole(driver.facts.role)) return undefined
    const [ready, members, nodes] = await Promise.all([
      driver.cluster.isReady(signal),
      driver.cluster.members(signal),
      driver.cluster.nodes(signal),
    ])
    if (nodes.kind === 'failed') return undefined
    return {
      $typeName: 'muster.v1.ServerView',
      ready,
      // Without a majority the datastore lists none, and so says that nothing may be done to it.
      members:
        members.kind === 'done'
          ? members.value.slice(0, MAX_MEMBERS).map(member => ({
              $typeName: 'muster.v1.DatastoreMember' as const,
              name: nodeOfMember(driver, member),
              learner: member.learner,
              healthy: member.healthy,
              leads: member.leads ?? false,
            }))
          : [],
      nodes: this.#watch.see(nodes.value.slice(0, MAX_NODES), performance.now()),
    }
  }
}

const MAX_SNAPSHOTS = 16

/** Snapshots of its cluster that lie on a server that has nothing of it. */
async function carriedHere({ facts, cluster }: ClusterDriver, { data, unfinished }: DriverState) {
  if (!isServerRole(facts.role) || data.kind !== 'none' || unfinished !== undefined) return []
  const listed = await cluster.listSnapshots()
  if (listed.kind === 'failed') return []
  const own = listed.value.filter(each => each.cluster === undefined || each.cluster === facts.cluster)
  return own.map(({ name }) => name).slice(-MAX_SNAPSHOTS)
}

/**
 * k3s puts eight digits behind the name of its node. A member that was added and never started has no name: it is that of
 * the server at whose address it is to be, so that what is left of a join that broke off is known by whose it is.
 */
function nodeOfMember({ distribution, facts }: ClusterDriver, { name, peerUrls }: SeenMember): string {
  if (name !== '') return distribution === 'k3s' ? name.replace(/-[0-9a-f]{8}$/, '') : name
  const addresses = peerUrls.map(hostIn)
  const server = [...facts.servers].find(
    ([, address]) => address !== undefined && addresses.includes(address),
  )
  return server?.[0] ?? ''
}

function versionOf({ facts }: ClusterDriver, state: DriverState): string {
  if (isServerRole(facts.role)) return state.runningVersion ?? ''
  const units = [...state.units.values()]
  const runs = units.length > 0 && units.every(({ active }) => active === 'active')
  return runs ? (state.installedVersion ?? '') : ''
}

function dataOf(
  data: DiskData,
  unfinished: string | undefined,
  lost: LostDatastore | undefined,
  distribution: string,
): ClusterState['data'] {
  if (lost) {
    const { authority, path } = lost
    return { case: 'lost', value: { $typeName: 'muster.v1.LostDatastore', authority, distribution, path } }
  }
  if (unfinished !== undefined) {
    const value = { $typeName: 'muster.v1.UnfinishedData', operationId: unfinished } as const
    return { case: 'unfinished', value }
  }
  switch (data.kind) {
    case 'none':
      return { case: 'none', value: { $typeName: 'muster.v1.NoClusterData' } }
    case 'cluster': {
      const { authority, distribution, server } = data
      return {
        case: 'present',
        value: { $typeName: 'muster.v1.ClusterData', authority, distribution, server },
      }
    }
    case 'unreadable':
      return {
        case: 'unreadable',
        value: { $typeName: 'muster.v1.UnreadableData', reason: data.reason.slice(0, 500) },
      }
  }
}

/** How long a lease lasts that does not say it itself, as Kubernetes has it. */
const LEASE_MS = 40_000

interface Watched {
  readonly uid: string
  readonly renewedMs: number | undefined
  /** When it was seen to have been renewed, by this process's own monotonic clock; undefined: not yet. */
  readonly changedMs: number | undefined
}

/**
 * Whether nodes are Ready by evidence of their own. A Ready condition outlives its kubelet for a while, so that by itself it
 * counts for nothing: the lease must have been renewed since the node was seen first, and not longer ago than it lasts. Times of one
 * kubelet are compared with each other alone, and how long ago something was is measured by this machine's own clock.
 */
export class NodeWatch {
  #watched: ReadonlyMap<string, Watched> = new Map()

  /** `nowMs`: by a clock that nobody sets. */
  see(nodes: readonly SeenNode[], nowMs: number): NodeObject[] {
    const before = this.#watched
    const watched = new Map<string, Watched>()
    this.#watched = watched
    return nodes.map(node => {
      const {
        name,
        uid,
        saysReady,
        renewedMs,
        kubeletVersion,
        bootId = '',
        leaseMs = 0,
        unschedulable,
        cordonedBy = '',
      } = node
      const known = before.get(name)
      const same = known?.uid === uid ? known : undefined
      const isRenewed = same !== undefined && renewedMs !== undefined && renewedMs !== same.renewedMs
      const changedMs = isRenewed ? nowMs : same?.changedMs
      watched.set(name, { uid, renewedMs, changedMs })
      const lives = changedMs !== undefined && nowMs - changedMs <= Math.max(leaseMs, LEASE_MS)
      return {
        $typeName: 'muster.v1.NodeObject',
        name,
        uid,
        ready: uid !== '' && saysReady && lives,
        kubeletVersion: bareVersion(kubeletVersion),
        ...(renewedMs !== undefined && { renewed: timestampFromMs(renewedMs) }),
        bootId,
        ...(unschedulable !== undefined && { unschedulable }),
        cordonedBy,
      }
    })
  }
}
