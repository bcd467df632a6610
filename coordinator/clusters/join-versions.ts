import { judgeJoin, type Running } from '../../shared/kubernetes/judge-skew.ts'
import { compareVersions, parseVersion, type Version } from '../../shared/kubernetes/version.ts'
import { isJoining, isServer, type Join } from './cluster-record.ts'
import {
  belongs,
  type ClusterSnapshot,
  type NodeObject,
  type Observation,
  type ServerView,
  settledObservation,
  type WantedHost,
} from './cluster-snapshot.ts'
import type { Reason } from './reasons.ts'
import { isOfDatastore } from './set-back.ts'

/**
 * Why the versions of the cluster keep a host from joining with the Kubernetes that its machine has; undefined: they do not. Every server
 * counts, also one that is away, by the last that is known of it, and whoever is joining.
 */
export function whyVersionsForbid(
  snapshot: ClusterSnapshot,
  { host, machine, role }: WantedHost,
  { nodes }: ServerView,
  now: number,
): Reason | undefined {
  const own = readVersion(settledObservation(snapshot, machine, now)?.installed)
  if (!own) return { gate: 'version-unknown', host }
  const servers: Running[] = []
  const workers: Running[] = []
  for (const other of snapshot.hosts) {
    if (other.host === host || !isPart(snapshot, other)) continue
    const seen = snapshot.machines.get(other.machine ?? '')?.observation
    const node = nodes.find(({ name }) => name === other.host)
    const version = readVersion(seen?.version) ?? readVersion(node?.version) ?? readVersion(seen?.installed)
    if (version) (isServer(other.role) ? servers : workers).push({ host: other.host, version })
    else if (isServer(other.role)) return { gate: 'version-unknown', host: other.host }
  }
  const [problem] = judgeJoin(host, isServer(role), own, servers, workers)
  return problem && { gate: 'version', reason: problem.reason }
}

/** It belongs to the cluster by the last that it said, or is about to. */
function isPart(snapshot: ClusterSnapshot, { host, role, machine = '' }: WantedHost): boolean {
  const { record, machines } = snapshot
  const view = machines.get(machine)
  if (!view || view.gone || record.left.get(host) === machine) return false
  if (isServer(role) && !isOfDatastore(record, machine)) return isJoining(record, machine)
  return (
    isJoining(record, machine) || (view.observation !== undefined && belongs(snapshot, view.observation.data))
  )
}

/**
 * Whether what joined runs what its machine has, by words of after it had joined: of a server by that of its API server, since its kubelet
 * may be of a package of its own; of a worker by that of its Node.
 */
export function runsItsVersion(
  { joinedMs, role }: Join,
  own: Observation | undefined,
  node: Pick<NodeObject, 'version'> | undefined,
): boolean {
  if (!own || joinedMs === undefined || own.asOfMs <= joinedMs) return false
  const wanted = readVersion(own.installed ?? own.version)
  const runs = readVersion(isServer(role) ? own.version : node?.version)
  return wanted !== undefined && runs !== undefined && compareVersions(runs, wanted) === 0
}

const readVersion = (text: string | undefined): Version | undefined =>
  text === undefined ? undefined : parseVersion(text)
