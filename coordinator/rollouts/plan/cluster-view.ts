import { authorityOf, isServer } from '../../clusters/cluster-record.ts'
import {
  belongs,
  type ClusterSnapshot,
  freshObservation,
  liveServers,
  type NodeObject,
  type Observation,
  type WantedHost,
} from '../../clusters/cluster-snapshot.ts'
import { readQuorum } from '../../clusters/quorum.ts'
import { describeReason } from '../../clusters/reasons.ts'
import { serverChangeOf } from '../../clusters/server-change.ts'
import type { ClusterView, MemberView } from './rollout-snapshot.ts'

/** A cluster as rollouts see it. `cordons`: by host the act whose cordon of ours is on its node. */
export function viewOfCluster(
  snapshot: ClusterSnapshot,
  cordons: ReadonlyMap<string, string>,
  nowMs: number,
): ClusterView {
  const { record, hosts, distribution } = snapshot
  const change = snapshot.rebuilding ?? serverChangeOf(record, distribution)
  // What the newest server sees: it may be of a moment before another's, never a mixture of both.
  const [first, ...others] = liveServers(snapshot, nowMs)
  const newest = others.reduce((best, next) => (best && best.asOfMs >= next.asOfMs ? best : next), first)
  const nodes = new Map(newest?.view.nodes.map(node => [node.name, node]))
  return {
    name: record.name,
    datastore: readQuorum(snapshot, nowMs),
    serverChange: change && describeReason(change),
    leader: hosts.find(({ machine }) => machine !== undefined && machine === record.firstServer)?.host,
    members: new Map(
      hosts.map(wanted => [
        wanted.host,
        viewOfMember(snapshot, wanted, newest && { asOfMs: newest.asOfMs, nodes }, cordons, nowMs),
      ]),
    ),
  }
}

interface SeenNodes {
  readonly asOfMs: number
  readonly nodes: ReadonlyMap<string, NodeObject>
}

function viewOfMember(
  snapshot: ClusterSnapshot,
  { host, role, machine }: WantedHost,
  seen: SeenNodes | undefined,
  cordons: ReadonlyMap<string, string>,
  nowMs: number,
): MemberView {
  const known = machine === undefined ? undefined : snapshot.machines.get(machine)?.observation
  const fresh = freshObservation(snapshot, machine, nowMs)
  const server = isServer(role)
  const node = seen?.nodes.get(host)
  // A pure server of some distributions has no Node; its own API server speaks for it.
  const answers = server ? fresh?.view?.ready : true
  const isReady = role === 'server' && seen && !node ? true : node?.ready
  const asOf = [fresh?.asOfMs, ...(role === 'server' ? [] : [seen?.asOfMs])]
  return {
    joined: hasJoined(snapshot, known),
    server,
    ready: seen && answers !== undefined ? answers && isReady === true : undefined,
    // What is said rests on all of these, so it is as old as the oldest.
    asOfMs: Math.min(...asOf.map(each => each ?? Number.NEGATIVE_INFINITY)),
    version: fresh?.version,
    kubelet: node?.version,
    nodeless: role === 'server' && seen !== undefined && node === undefined,
    cordonedBy: cordons.get(host),
  }
}

function hasJoined(
  { record, ...snapshot }: ClusterSnapshot,
  known: Observation | undefined,
): boolean | undefined {
  const { kind } = known?.data ?? {}
  // Nobody is a node of what does not exist; what runs and was not adopted yet is no business of ours.
  if (authorityOf(record) === undefined && record.founding === undefined) {
    return kind === 'cluster' ? undefined : false
  }
  if (!known) return undefined
  if (kind === 'none') return false
  return belongs({ record, ...snapshot }, known.data) ? true : undefined
}
