import { create } from '@bufbuild/protobuf'
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
import { bareVersion } from '../drivers/kubernetes/judge-ready.ts'
import type { SeenNode } from '../drivers/kubernetes/see-nodes.ts'
import type { DiskData } from '../drivers/node/disk-data.ts'

interface StandingDeps {
  readonly openDriver: () => Promise<DriverReading>
  readonly readDisk: () => Promise<DiskData>
}

export interface SeenStanding {
  readonly state: ClusterState
  readonly distribution: string
  readonly role: string
  readonly held: boolean
  /** The authority whose data is ours. */
  readonly adopted: string | undefined
}

const MAX_MEMBERS = 32
const MAX_NODES = 5_000

/** Programs of Kubernetes may hang where their server does; a question is not answered for ever. */
const ANSWER_MS = 3 * 60_000

/**
 * What this node sees of its cluster: read anew for each question, once for all that come while another reading is under way,
 * since each reading asks several programs.
 */
export class ClusterStanding {
  readonly #deps: StandingDeps
  /** Of the agent. */
  readonly #stop: AbortSignal
  readonly #watch = new NodeWatch()
  #running: Promise<SeenStanding> | undefined
  /** What begins when the running one is over. */
  #next: Promise<SeenStanding> | undefined
  #nodeName = ''

  constructor(deps: StandingDeps, stop: AbortSignal) {
    this.#deps = deps
    this.#stop = stop
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
    const reading = this.#read(this.#stop).finally(() => {
      if (this.#running === reading) this.#running = undefined
    })
    reading.catch(() => {}) // told to whoever waits for it; nobody may, by now
    this.#running = reading
    return reading
  }

  /** What was begun has come to rest when it resolves. */
  async idle(): Promise<void> {
    while (this.#running) await this.#running.catch(() => {})
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
      const none = { distribution: '', role: '', held: false, adopted: undefined }
      return {
        ...none,
        state: create(ClusterStateSchema, { cluster: '', data: dataOf(data, undefined) }),
      }
    }
    const { driver } = reading
    this.#nodeName = driver.nodeName
    const state = await driver.readState(signal)
    const view = state.runningVersion === undefined ? undefined : await this.#view(driver, signal)
    const { cluster, distribution, role } = driver.facts
    const { held, adopted } = state
    const told = create(ClusterStateSchema, {
      cluster,
      data: dataOf(state.data, state.unfinished),
      version: versionOf(driver, state),
      address: state.address ?? '',
      machineId: state.machineId ?? '',
      ...(view && { view }),
    })
    return { distribution, role, held, adopted, state: told }
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
            }))
          : [],
      nodes: this.#watch.see(nodes.value.slice(0, MAX_NODES)),
    }
  }
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

function dataOf(data: DiskData, unfinished: string | undefined): ClusterState['data'] {
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

/**
 * Whether nodes are Ready by evidence of their own. A Ready condition outlives its kubelet for a while, so that by itself it
 * counts for nothing: the lease must have been renewed since the node was seen first. Times of one kubelet are compared with
 * each other alone.
 */
export class NodeWatch {
  #first = new Map<string, { readonly uid: string; readonly renewedMs: number | undefined }>()

  see(nodes: readonly SeenNode[]): NodeObject[] {
    const before = this.#first
    this.#first = new Map()
    return nodes.map(({ name, uid, saysReady, renewedMs, kubeletVersion }) => {
      const known = before.get(name)
      const first = known?.uid === uid ? known : { uid, renewedMs }
      this.#first.set(name, first)
      const renewed = renewedMs !== undefined && renewedMs > (first.renewedMs ?? Number.NEGATIVE_INFINITY)
      const ready = uid !== '' && saysReady && renewed && known?.uid === uid
      return {
        $typeName: 'muster.v1.NodeObject',
        name,
        uid,
        ready,
        kubeletVersion: bareVersion(kubeletVersion),
      }
    })
  }
}
