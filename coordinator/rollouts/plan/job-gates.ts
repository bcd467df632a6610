import { forbids } from './allow-gate.ts'
import type { Decision, Wait } from './decision.ts'
import type { GateInput } from './gates.ts'
import { isAsked, isNew } from './own-gates.ts'
import type { ClusterView, HostView, RolloutSnapshot } from './rollout-snapshot.ts'

/** Counted from when they were asked, and so above the longest that Jobs may take. */
export const JOBS_FRESH_MS = 5 * 60_000
/** What a node must take orders for to run them: bringing manifests asks no more of it. */
const VERB = 'join'

/**
 * Jobs of the fleet directory that one server of the cluster runs, after the newest step in it was over. Nothing older counts, and what
 * cannot be asked is closed.
 */
export function* jobGates(input: GateInput): Iterable<Wait> {
  const { snapshot, host, view, servers } = input
  // What certainly runs nothing of its cluster is as outside of it.
  const cluster = view ? view.cluster : host.cluster
  const jobs = cluster === undefined ? undefined : snapshot.jobs.get(cluster)
  if (cluster === undefined || !jobs) return
  const opens = `the Jobs of cluster ${cluster} are run again and all complete`
  const { answer } = jobs
  if (isNew(input, answer, JOBS_FRESH_MS)) {
    if (answer.problem !== undefined) yield { gate: 'jobs', reason: answer.problem, opens }
    return
  }
  const asked = serverToAsk(servers.of(cluster), snapshot.clusters.get(cluster))
  yield asked
    ? { gate: 'jobs', reason: `the Jobs of cluster ${cluster} have not completed since the last step`, opens }
    : {
        gate: 'jobs',
        reason: `no server of cluster ${cluster} is there that can be asked to run its Jobs`,
        opens: `a server is connected, and \`allow\` of its agent has "${VERB}"`,
      }
}

/** Clusters whose Jobs hosts wait for, and for nothing else but answers. */
export function jobsAwaited(
  { rollouts, hosts }: Pick<RolloutSnapshot, 'rollouts' | 'hosts'>,
  { waits }: Pick<Decision, 'waits'>,
): ReadonlySet<string> {
  const awaited = new Set<string>()
  for (const rollout of rollouts) {
    for (const [name, held] of waits.get(rollout.id) ?? []) {
      const host = rollout.hosts.find(one => one.host === name)
      const cluster = hosts.get(name)?.cluster ?? host?.cluster
      if (cluster !== undefined && held.every(isAsked) && held.some(({ gate }) => gate === 'jobs'))
        awaited.add(cluster)
    }
  }
  return awaited
}

/** The server that is asked: one that is well, else one that is there at all. */
export function serverToAsk(
  servers: readonly HostView[],
  cluster: Pick<ClusterView, 'members'> | undefined,
): HostView | undefined {
  const able = servers
    .filter(
      one => one.machine !== undefined && one.connected && one.held === undefined && !forbids(one, VERB),
    )
    .toSorted((a, b) => (a.host < b.host ? -1 : 1))
  return able.find(({ host }) => cluster?.members.get(host)?.ready === true) ?? able[0]
}
