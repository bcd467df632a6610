import { judgeMove, type Running } from '../../../shared/kubernetes/judge-skew.ts'
import { parseVersion } from '../../../shared/kubernetes/version.ts'
import { whyNotRemove, whyNotStop } from '../../clusters/quorum.ts'
import { describeReason } from '../../clusters/reasons.ts'
import type { Wait } from './decision.ts'
import type { GateInput } from './gates.ts'
import { bringsRevision } from './host-steps.ts'
import { whyUnwell } from './judge-grant.ts'
import type { HostRecord } from './rollout-record.ts'
import type { ClusterView } from './rollout-snapshot.ts'

/** Whether anybody can say what the host is in its cluster: else no other gate of the cluster means anything. */
export function* known({ snapshot, rollout, host, placements }: GateInput): Iterable<Wait> {
  if (host.cluster === undefined) {
    const wait = placements.whyNot(rollout, host)
    if (wait) yield wait
    return
  }
  const cluster = snapshot.clusters.get(host.cluster)
  if (!cluster) {
    const reason = `nobody has looked at cluster ${host.cluster} since the coordinator started`
    yield { gate: 'unknown', reason, opens: 'its machines say what they have' }
    return
  }
  if (cluster.members.get(host.host)?.joined !== undefined) return
  const reason = `nobody can say whether it runs as a node of ${host.cluster}`
  yield { gate: 'unknown', reason, opens: 'its agent says what is on its disk' }
}

/**
 * Only what is well is touched, and it must be well still when its turn to act comes: a cordon of ours leaves a node Ready. A server that was
 * begun with is not taken away either once another server of its cluster has ceased to be well; before that, this is what the budget says.
 */
export function* health({ snapshot, rollout, host, view, fresh }: GateInput): Iterable<Wait> {
  if (view?.connected && view.held === undefined) {
    const unwell = whyUnwell(snapshot, view, host)
    if (unwell !== undefined) yield { gate: 'health', reason: unwell, opens: 'its node is Ready' }
  }
  if (fresh || !host.server || rollout.overrides.has(`${host.host} budget`)) return
  for (const [name, { server, joined, ready }] of snapshot.clusters.get(host.cluster ?? '')?.members ?? []) {
    if (!server || name === host.host || joined !== true || ready === true) continue
    const reason =
      ready === undefined
        ? `nobody can say whether server ${name} of its cluster is well`
        : `server ${name} of its cluster is not well`
    yield { gate: 'health', reason, opens: `${name} is Ready` }
    return
  }
}

/** Quorum as it is and as it would be, and versions. Looked at before each step, also of a host that was begun with. */
export function* datastore(input: GateInput): Iterable<Wait> {
  const { snapshot, rollout, host, availability } = input
  const cluster = snapshot.clusters.get(host.cluster ?? '')
  // Who leaves waits at no other gate for what nobody can say: a machine that is gone may never say it again.
  const leaves = rollout.action === 'leave'
  if (!cluster) {
    if (leaves && host.server && host.cluster !== undefined) yield unseen(host.cluster)
    return
  }
  const joined = cluster.members.get(host.host)?.joined
  if (!joined && (joined === false || !leaves)) return
  if (host.server) {
    const other = availability.otherServer(host)
    const opens = 'the datastore agrees without this server'
    if (other !== undefined) {
      yield {
        gate: 'quorum',
        reason: `server ${other} is being changed; one is at a time`,
        opens: 'it is done',
      }
    } else {
      const stop = cluster.serverChange ?? whyNotServer(cluster, host, leaves)
      const byFailed = availability.failedServer(rollout, host)
      if (stop !== undefined) yield { gate: 'quorum', byFailed, reason: stop, opens }
    }
  }
  yield* skew(input, cluster)
}

function unseen(cluster: string): Wait {
  const reason = `nobody can say whether the datastore of cluster ${cluster} agrees without it`
  return { gate: 'quorum', reason, opens: 'its servers say what they see' }
}

function whyNotServer(
  { datastore: read }: ClusterView,
  { host }: HostRecord,
  leaves: boolean,
): string | undefined {
  if (read.kind === 'unknown') return describeReason(read.reason)
  const reason = leaves ? whyNotRemove(read.quorum, host) : whyNotStop(read.quorum, host)
  return reason && describeReason(reason)
}

function* skew({ rollout, host, view, versions, standing }: GateInput, cluster: ClusterView): Iterable<Wait> {
  const wanted = bringsRevision(rollout.action) ? view?.versions.get(rollout.id) : undefined
  if (wanted === undefined) return
  const to = parseVersion(wanted)
  if (!to) {
    const reason = `version ${wanted.slice(0, 40)} cannot be read`
    yield { gate: 'target', reason, opens: 'a revision that names another' }
    return
  }
  const { servers, workers, unknown } = versions.of(cluster)
  const silent = unknown.find(({ name, server }) => server || name === host.host)
  if (silent) {
    yield { gate: 'skew', reason: `nobody can say what ${silent.name} runs`, opens: 'it says what it runs' }
    return
  }
  const [problem] = judgeMove(host.host, host.server, to, servers, workers)
  if (!problem) return
  const { rule, reason, beside } = problem
  // No other host's move makes these right.
  const never = rule === 'downgrade' || rule === 'skipped-minor'
  yield never
    ? { gate: 'target', reason, opens: 'a revision that names another' }
    : {
        gate: 'skew',
        reason,
        opens: 'the versions of the others fit',
        // One that is stuck itself does not move, and then nobody waits for it for ever.
        ...(beside !== undefined && standing.host(beside) && { on: beside }),
      }
}

/** What runs in each cluster, read once for all its hosts. */
export class ClusterVersions {
  readonly #read = new Map<string, ReturnType<typeof readVersions>>()

  of(cluster: ClusterView): ReturnType<typeof readVersions> {
    const known = this.#read.get(cluster.name) ?? readVersions(cluster)
    this.#read.set(cluster.name, known)
    return known
  }
}

function readVersions({ members }: ClusterView) {
  const servers: Running[] = []
  const workers: Running[] = []
  const unknown: { readonly name: string; readonly server: boolean }[] = []
  for (const [name, { joined, server, version: own, kubelet }] of members) {
    if (joined === false) continue
    const text = own ?? kubelet
    const version = text === undefined ? undefined : parseVersion(text)
    if (!version) unknown.push({ name, server })
    else (server ? servers : workers).push({ host: name, version })
  }
  return { servers, workers, unknown }
}
