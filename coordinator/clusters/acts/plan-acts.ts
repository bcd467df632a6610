import { authorityOf, type ClusterRecord, isServer } from '../cluster-record.ts'
import {
  belongs,
  type ClusterSnapshot,
  freshObservation,
  liveServers,
  type NodeData,
  settledObservation,
} from '../cluster-snapshot.ts'
import { nodesLeftBehind } from '../decide-clears.ts'
import { describeReason, type Waiting } from '../reasons.ts'
import { isOfDatastore } from '../set-back.ts'
import type { ClusterAct } from './cluster-act.ts'

/** What is to be written down next about acts. */
export type ActStep =
  /** An act that nobody asks for by name: it follows from an adoption or a revision. */
  | {
      readonly kind: 'new'
      readonly request: string
      readonly act: 'adopt' | 'manifests' | 'stand-down'
      readonly host: string
      readonly machine: string
      readonly parameter: string
    }
  /** The next attempt is given to a machine. */
  | { readonly kind: 'begin'; readonly id: string; readonly executor: string; readonly executorHost: string }
  | {
      readonly kind: 'end'
      readonly id: string
      readonly done: boolean
      readonly class: string
      readonly reason: string
    }
  /** What it waits for, and who does it, is another than before. */
  | {
      readonly kind: 'show'
      readonly id: string
      readonly reason: string
      readonly executor: string
      readonly executorHost: string
    }

export interface ActsInput {
  readonly snapshot: ClusterSnapshot
  readonly waiting: readonly Waiting[]
  /** Under way, oldest first. */
  readonly open: readonly ClusterAct[]
  /** Requests of all adoptions of nodes so far; only needed where the cluster was adopted. */
  readonly adopted: ReadonlySet<string>
  /** Requests that servers which came back stand down, so far; only needed where the datastore was set back. */
  readonly stoodDown?: ReadonlySet<string>
  /** The manifests that the cluster should have. */
  readonly manifests: ManifestsWish | undefined
}

export interface ManifestsWish {
  readonly revision: number
  /** SHA-256 (hex) over all of them; empty: there are none. */
  readonly digest: string
  /** The cluster has others, and nobody was told to bring these yet. */
  readonly isDue: boolean
  /** The act that last set the datastore back; empty: none that is known. */
  readonly restoredBy: string
}

/** Follows acts that are under way, and begins those that follow from an adoption or a revision. */
export function planActs(input: ActsInput, now: number): readonly ActStep[] {
  const steps = input.open.flatMap(act => followAct(input, act, now))
  return [...steps, ...adoptions(input), ...standDowns(input, now), ...manifestsOf(input)]
}

export function adoptRequest(cluster: string, machine: string, authority: string): string {
  return `adopt ${cluster} ${machine} ${authority}`
}

export function manifestsRequest(
  cluster: string,
  { revision, restoredBy }: Pick<ManifestsWish, 'revision' | 'restoredBy'>,
): string {
  return `manifests ${cluster} ${revision}${restoredBy === '' ? '' : ` after ${restoredBy}`}`
}

function followAct(input: ActsInput, act: ClusterAct, now: number): readonly ActStep[] {
  const { snapshot, manifests } = input
  const { id } = act
  const end = (kind: string, reason: string, done = false): readonly ActStep[] => [
    { kind: 'end', id, done, class: kind, reason },
  ]
  if (act.act === 'leave') return followLeave(input, act, now)
  if (act.expiresMs !== undefined && act.expiresMs <= now) {
    return end('expired', `${act.executorHost || 'nobody'} did not say in time how it ended`)
  }
  const isOlder = act.act === 'manifests' && manifests && act.parameter !== manifests.digest
  if (isOlder && act.request.startsWith('manifests ')) return end('superseded', 'a newer revision has others')
  const isOther = act.act === 'adopt' && !snapshot.hosts.some(({ machine }) => machine === act.machine)
  if (isOther) return end('given-up', `${act.host} is another machine now, or none`)
  if (act.act === 'stand-down') {
    const data = freshObservation(snapshot, act.machine, now)?.data
    const gone = snapshot.machines.get(act.machine)?.gone ?? true
    if (gone || (data && !isFromBefore(snapshot, act.machine, data)))
      return end('given-up', `${act.host} has nothing any more of what there was before`)
  }
  if (act.executor !== '') {
    const gone = snapshot.machines.get(act.executor)?.gone ?? false
    if (!gone) return []
    if (act.request.startsWith('operator ') || act.act === 'adopt') {
      return end('executor-gone', `${act.executorHost} was sent away`)
    }
  }
  if (act.notBeforeMs > now) return []
  const executor = executorFor(snapshot, act, now)
  return executor ? [{ kind: 'begin', id, ...executor }] : []
}

/** Who does what nobody stands beside: the node itself takes itself in or stands down, a live server does the rest. */
function executorFor(snapshot: ClusterSnapshot, { act, machine, host }: ClusterAct, now: number) {
  if (act === 'adopt' || act === 'stand-down') {
    return freshObservation(snapshot, machine, now) ? { executor: machine, executorHost: host } : undefined
  }
  const [server] = liveServers(snapshot, now)
  return server && { executor: server.machine, executorHost: server.host }
}

/** A leave is the planner's: it waits for its turn, and is over when nothing of the host is left in the cluster. */
function followLeave({ snapshot, waiting }: ActsInput, act: ClusterAct, now: number): readonly ActStep[] {
  const { record, hosts } = snapshot
  const { id, host, machine } = act
  const show = (reason: string, executor = ''): readonly ActStep[] => {
    const executorHost = hosts.find(each => each.machine === executor)?.host ?? ''
    const same = act.reason === reason && act.executor === executor && act.executorHost === executorHost
    return same ? [] : [{ kind: 'show', id, reason, executor, executorHost }]
  }
  const leave = record.leaves.find(({ request }) => request === id)
  if (leave) {
    if (leave.attempt) {
      const again = leave.reason === '' ? '' : `; before: ${leave.reason}`
      return show(`it is leaving (operation ${leave.attempt.operation})${again}`, leave.attempt.executor)
    }
    const why = waiting.find(each => each.host === host)?.reason
    return show(why ? describeReason(why) : 'it waits for its turn')
  }
  if (record.left.get(host) !== machine) {
    const why =
      'it was given up: its order expired, the host is another machine now, or another order took its place'
    return [{ kind: 'end', id, done: false, class: 'given-up', reason: why }]
  }
  const { overMs = 0 } = record.attempts.get(machine) ?? {}
  const [server] = liveServers(snapshot, now)
  const isBehind =
    record.clears.some(clear => clear.host === host) || nodesLeftBehind(snapshot, now).includes(host)
  const isNewer = server !== undefined && server.asOfMs > Math.max(overMs, record.settledMs)
  if (isNewer && !isBehind && !server.view.nodes.some(({ name }) => name === host)) {
    return [
      {
        kind: 'end',
        id,
        done: true,
        class: '',
        reason: 'it has left, and the cluster knows its Node no more',
      },
    ]
  }
  return show('it has left; a server takes its Node away')
}

/** After an adoption each node of the cluster is to take itself in, also one that was away then. */
function adoptions({ snapshot, adopted }: ActsInput): readonly ActStep[] {
  const { record, hosts, machines } = snapshot
  const authority = authorityOf(record)
  if (authority === undefined || !record.founding?.adopted) return []
  return hosts.flatMap(({ host, machine }) => {
    const data = machine === undefined ? undefined : machines.get(machine)?.observation?.data
    if (machine === undefined || !data || !belongs(snapshot, data)) return []
    const request = adoptRequest(record.name, machine, authority)
    if (adopted.has(request)) return []
    return [{ kind: 'new', request, act: 'adopt', host, machine, parameter: authority } as const]
  })
}

export function standDownRequest({ name, setBackAt }: ClusterRecord, machine: string): string {
  return `stand-down ${name} ${machine} ${setBackAt}`
}

/** It has a server's data of the cluster from before its datastore was set back. */
function isFromBefore(snapshot: ClusterSnapshot, machine: string, data: NodeData): boolean {
  return belongs(snapshot, data) && !isOfDatastore(snapshot.record, machine)
}

/** A server that came back with what there was before is told, once: its units would start it beside the cluster that there is. */
function standDowns({ snapshot, stoodDown }: ActsInput, now: number): readonly ActStep[] {
  const { record, hosts } = snapshot
  if (record.setBackAt === 0 || !stoodDown) return []
  return hosts.flatMap(({ host, role, machine }) => {
    const data = settledObservation(snapshot, machine, now)?.data
    if (machine === undefined || !isServer(role) || !data || !isFromBefore(snapshot, machine, data)) return []
    const request = standDownRequest(record, machine)
    if (stoodDown.has(request)) return []
    return [{ kind: 'new', request, act: 'stand-down', host, machine, parameter: '' } as const]
  })
}

/** Manifests that changed are brought to the cluster once for their revision, and once more after its datastore was set back. */
function manifestsOf({ snapshot, manifests }: ActsInput): readonly ActStep[] {
  const { record } = snapshot
  if (!manifests?.isDue || authorityOf(record) === undefined) return []
  const request = manifestsRequest(record.name, manifests)
  return [{ kind: 'new', request, act: 'manifests', host: '', machine: '', parameter: manifests.digest }]
}
