import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import type { Rollout } from '../../../shared/gen/muster/v1/rollout_pb.ts'
import { millisOf } from '../../../shared/time.ts'
import type { ClusterFleet } from '../muster/cluster-fleet.ts'
import type { NodeChange } from './seen.ts'

/** A stretch of time in which a node did something of a rollout, by its own journal. */
export interface Work {
  readonly host: string
  readonly what: string
  readonly fromMs: number
  readonly toMs: number
}

/** What the nodes did of a rollout, oldest first: phases of their operations, and acts of the cluster. */
export async function workOf(made: ClusterFleet, rollout: Rollout): Promise<readonly Work[]> {
  const [fromMs = 0, toMs = Date.now()] = [millisOf(rollout.started), millisOf(rollout.ended)]
  const { operations } = await made.lab.fleet.api.listOperations({ limit: 1_000 })
  const phases = operations.flatMap(({ host, action, phases: done }) =>
    done.flatMap(({ phase, started, ended }) => {
      const [begun, over] = [millisOf(started), millisOf(ended)]
      const name = Object.entries(Phase)
        .find(([, value]) => value === phase)?.[0]
        .toLowerCase()
      return begun === undefined || over === undefined
        ? []
        : [{ host, what: `${action}: ${name}`, fromMs: begun, toMs: over }]
    }),
  )
  const acts = await Promise.all(rollout.hosts.map(({ host }) => actsOf(made, host)))
  return [...phases, ...acts.flat()]
    .filter(work => work.fromMs >= fromMs && work.fromMs < toMs)
    .toSorted((a, b) => a.fromMs - b.fromMs)
}

/** Acts of the cluster that a machine did, by its own records. */
async function actsOf(made: ClusterFleet, host: string): Promise<readonly Work[]> {
  const folder = join(made.machine(host).root, 'var/lib/muster-agent/clusters/operations')
  const names = await readdir(folder)
  const records = await Promise.all(
    names
      .filter(name => name.endsWith('.json') && !name.startsWith('.'))
      .map(async name => JSON.parse(await readFile(join(folder, name), 'utf8'))),
  )
  return records.flatMap(({ action, begunMs, endedMs }) =>
    begunMs === undefined || endedMs === undefined
      ? []
      : [{ host, what: `act: ${action}`, fromMs: begunMs, toMs: endedMs }],
  )
}

/**
 * How long kubelets took from the end of their restart until their Nodes were seen Ready with another version. A worker
 * cannot ask the cluster and ends its step before; what its kubelet needs to start is the node's own work all the same.
 */
export function kubeletStarts(work: readonly Work[], nodes: readonly NodeChange[]): readonly Work[] {
  return work.flatMap(({ host, what, fromMs: begunMs, toMs: fromMs }) => {
    if (what !== 'apply: kubernetes') return []
    const own = nodes.filter(({ node }) => node === host)
    const before = own.findLast(({ atMs }) => atMs < begunMs)
    const ready = own.find(each => each.atMs > begunMs && each.ready && each.version !== before?.version)
    return before && ready && ready.atMs > fromMs
      ? [{ host, what: 'kubelet: until Ready', fromMs, toMs: ready.atMs }]
      : []
  })
}

/** How long anybody worked: what was done at the same time counts once. */
export function unionMs(work: readonly Pick<Work, 'fromMs' | 'toMs'>[]): number {
  let total = 0
  let untilMs = Number.NEGATIVE_INFINITY
  for (const { fromMs, toMs } of work.toSorted((a, b) => a.fromMs - b.fromMs)) {
    total += Math.max(0, toMs - Math.max(fromMs, untilMs))
    untilMs = Math.max(untilMs, toMs)
  }
  return total
}

/** Stretches in which nobody worked, the longest first, with what was before and after. */
export function idleTimes(
  work: readonly Work[],
  fromMs: number,
  toMs: number,
): readonly { readonly ms: number; readonly after: string; readonly before: string }[] {
  const idle: { ms: number; after: string; before: string }[] = []
  let [untilMs, after] = [fromMs, 'the start']
  for (const each of [...work, { host: '', what: 'the end', fromMs: toMs, toMs }]) {
    const name = `${each.host} ${each.what}`.trim()
    if (each.fromMs > untilMs) idle.push({ ms: each.fromMs - untilMs, after, before: name })
    if (each.toMs > untilMs) [untilMs, after] = [each.toMs, name]
  }
  return idle.toSorted((a, b) => b.ms - a.ms)
}
