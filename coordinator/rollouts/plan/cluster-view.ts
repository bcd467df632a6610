import type { Cordon } from '../../clusters/acts/cluster-act.ts'
import { authorityOf, isJoining, isServer } from '../../clusters/cluster-record.ts'
import {
  belongs,
  type ClusterSnapshot,
  freshObservation,
  hasLostDatastore,
  type LiveServer,
  liveServers,
  type NodeObject,
  type Observation,
  type WantedHost,
} from '../../clusters/cluster-snapshot.ts'
import { type QuorumReading, readQuorum } from '../../clusters/quorum.ts'
import { describeReason } from '../../clusters/reasons.ts'
import { serverChangeOf } from '../../clusters/server-change.ts'
import type { NodeEvidence } from './new-evidence.ts'
import type { ClusterView, MemberView } from './rollout-snapshot.ts'

/** A cluster as rollouts see it. `cordons`: by host the cordon of ours that is on its node. */
export function viewOfCluster(
  snapshot: ClusterSnapshot,
  cordons: ReadonlyMap<string, Cordon>,
  nowMs: number,
): ClusterView {
  const { record, hosts, distribution } = snapshot
  const change = snapshot.rebuilding ?? serverChangeOf(record, distribution)
  // What the newest server sees: it may be of a moment before another's, never a mixture of both.
  const live = liveServers(snapshot, nowMs)
  const [first, ...others] = live
  const newest = others.reduce((best, next) => (best && best.asOfMs >= next.asOfMs ? best : next), first)
  const nodes = new Map(newest?.view.nodes.map(node => [node.name, node]))
  const datastore = readQuorum(snapshot, nowMs)
  return {
    name: record.name,
    datastore,
    serverChange: change && describeReason(change),
    leader: leaderOf(datastore, hosts),
    first: hosts.find(({ machine }) => machine !== undefined && machine === record.firstServer)?.host,
    members: new Map(
      hosts.map(wanted => [
        wanted.host,
        viewOfMember(snapshot, wanted, newest && { asOfMs: newest.asOfMs, nodes, live }, cordons, nowMs),
      ]),
    ),
  }
}

/**
 * Of the same reading as the quorum: a server is granted by both or by none. Two that say it of themselves are an election that one of
 * them has not heard of, and nobody.
 */
function leaderOf(datastore: QuorumReading, hosts: readonly WantedHost[]): string | undefined {
  if (datastore.kind === 'unknown') return undefined
  const [leader, other] = datastore.quorum.members.filter(({ leads }) => leads)
  return other ? undefined : hosts.find(({ host, role }) => isServer(role) && host === leader?.name)?.host
}

interface SeenNodes {
  readonly asOfMs: number
  readonly nodes: ReadonlyMap<string, NodeObject>
  /** Everybody who sees them. */
  readonly live: readonly LiveServer[]
}

function viewOfMember(
  snapshot: ClusterSnapshot,
  { host, role, machine }: WantedHost,
  seen: SeenNodes | undefined,
  cordons: ReadonlyMap<string, Cordon>,
  nowMs: number,
): MemberView {
  const known = machine === undefined ? undefined : snapshot.machines.get(machine)?.observation
  const fresh = freshObservation(snapshot, machine, nowMs)
  const cordon = cordons.get(host)
  const server = isServer(role)
  const node = seen?.nodes.get(host)
  // A pure server of some distributions has no Node; its own API server speaks for it.
  const answers = server ? fresh?.view?.ready : true
  const isReady = role === 'server' && seen && !node ? true : node?.ready
  const asOf = [fresh?.asOfMs, ...(role === 'server' ? [] : [seen?.asOfMs])]
  return {
    joined: hasJoined(snapshot, machine, known),
    server,
    ready: seen && answers !== undefined ? answers && isReady === true : undefined,
    // What is said rests on all of these, so it is as old as the oldest.
    asOfMs: Math.min(...asOf.map(each => each ?? Number.NEGATIVE_INFINITY)),
    version: fresh?.version,
    kubelet: node?.version,
    nodeless: role === 'server' && seen !== undefined && node === undefined,
    cordonedBy: cordon?.act,
    cordonStays: cordon && cordon.rollout === undefined,
    evidence: seen && node && evidenceOf(node, seen, fresh),
  }
}

/** What each server says of a renewal is true whoever else has seen less of it. */
function evidenceOf(node: NodeObject, { live }: SeenNodes, own: Observation | undefined): NodeEvidence {
  const after = live.flatMap(
    ({ view }) => view.nodes.find(({ uid }) => uid === node.uid)?.renewedAfterMs ?? [],
  )
  return {
    renewedMs: node.renewedMs,
    renewedAfterMs: after.length > 0 ? Math.max(...after) : undefined,
    bootId: node.bootId,
    ownBootId: own?.bootId,
    startedMs: own?.kubeletStartedMs,
  }
}

/** Undefined: nobody can say. Only what says itself that it has nothing is no node, and what no machine is. */
function hasJoined(
  snapshot: ClusterSnapshot,
  machine: string | undefined,
  known: Observation | undefined,
): boolean | undefined {
  const { record } = snapshot
  const isNew = authorityOf(record) === undefined && record.founding === undefined
  if (machine === undefined && isNew) return false
  const founds = record.founding?.state === 'ordered' && record.founding.machine === machine
  // What founds or joins may be a node at any moment; what runs and was not adopted yet belongs to nothing that is known here.
  if (!known || founds || isJoining(record, machine ?? '')) return undefined
  if (known.data.kind === 'none') return false
  // Its member counts until another server has taken it out.
  if (!isNew && hasLostDatastore(snapshot, known.data))
    return ![...record.left.values()].includes(machine ?? '')
  return !isNew && belongs(snapshot, known.data) ? true : undefined
}
