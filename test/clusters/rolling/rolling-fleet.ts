import type { Rollout } from '../../../shared/gen/muster/v1/rollout_pb.ts'
import { millisOf, msFromDuration } from '../../../shared/time.ts'
import type { KubernetesVersion } from '../../lab/clusters/programs.ts'
import type { SystemOptions } from '../../lab/systems.ts'
import { waitUntil } from '../../support/wait-until.ts'
import { type ClusterFleet, startClusterFleet } from '../muster/cluster-fleet.ts'
import { HOSTS, type Host, WORKERS } from '../muster/rendered-system.ts'
import { untilReady } from '../muster/seen-cluster.ts'
import { idleTimes, kubeletStarts, unionMs, workOf } from './own-work.ts'
import type { Seen } from './seen.ts'
import { APP, workload } from './workload.ts'

/** Five machines whose Kubernetes comes with their systems, with a workload on both workers. */
export async function startRollingFleet(): Promise<ClusterFleet> {
  const made = await startClusterFleet('components', { life: 'with-system' })
  try {
    await made.untilJoined(...HOSTS)
    await made.untilVoters(3)
    await untilReady(made, 'n1', WORKERS)
    await made.createObject('n1', workload())
    await untilServing(made)
    return made
  } catch (error) {
    await made[Symbol.asyncDispose]()
    throw error
  }
}

/** Waits until both replicas are ready. */
export async function untilServing(made: ClusterFleet): Promise<void> {
  const ready = 'jsonpath={.status.readyReplicas}'
  await waitUntil(
    'two ready replicas',
    async () => (await made.kubectl('n2', 'get', 'deployment', APP, '-o', ready)) === '2' || undefined,
    { timeoutMs: 120_000, everyMs: 1_000 },
  )
}

/** What a host's next system is made of. */
export interface Change {
  /** Also of Kubernetes: its units are other ones, so that it restarts. */
  readonly kubernetes: boolean
}

/** Publishes a revision in which these hosts have another system; what the others have stays as it was. */
export class Revisions {
  readonly #made: ClusterFleet
  readonly #systems = new Map<Host, SystemOptions>()
  #number = 2

  constructor(made: ClusterFleet) {
    this.#made = made
  }

  /** Of the newest, which the systems that changed with it have in a file. */
  get number(): number {
    return this.#number
  }

  async publish(
    changes: Readonly<Partial<Record<Host, Change>>>,
    version: KubernetesVersion = this.#made.version,
  ): Promise<void> {
    this.#number += 1
    for (const host of HOSTS) {
      const change = changes[host]
      if (change) this.#systems.set(host, this.#next(host, version, change))
    }
    await this.#made.writeSystems(version, Object.fromEntries(this.#systems))
    await this.#made.publish()
  }

  #next(host: Host, version: KubernetesVersion, { kubernetes }: Change): SystemOptions {
    const { units = {}, etc = {}, ...rest } = this.#made.systemOf(host, version)
    const number = `${this.#number}`
    const own = kubernetes
      ? Object.fromEntries(
          Object.entries(units).map(([name, text]) => [
            name,
            /^(etcd|kube)/.test(name) && name.endsWith('.service') && text !== null
              ? text.replace('[Service]\n', `[Service]\nEnvironment="LAB_REVISION=${number}"\n`)
              : text,
          ]),
        )
      : units
    return {
      ...rest,
      generation: number,
      units: { ...own, 'lab-shop.service': `[Service]\nExecStart=/bin/sleep infinity\n# ${number}\n` },
      etc: { ...etc, 'lab-revision': `${number}\n` },
    }
  }
}

/** The newest rollout with its hosts. */
export async function newestRollout(made: ClusterFleet): Promise<Rollout> {
  const { rollouts } = made.lab.fleet
  const [newest] = (await rollouts.listRollouts({ limit: 1 })).rollouts
  const { rollout } = await rollouts.getRollout({ id: newest?.id ?? '' })
  if (!rollout) throw new Error('there is no rollout')
  return rollout
}

const seconds = (ms: number) => (ms / 1_000).toFixed(1)

/** Prints what a rollout took, and what it cost whoever uses the cluster. */
export async function printFigures(
  made: ClusterFleet,
  title: string,
  rollout: Rollout,
  seen: Seen,
): Promise<void> {
  const [from = 0, to = 0] = [millisOf(rollout.started), millisOf(rollout.ended)]
  const done = await workOf(made, rollout)
  const work = [...done, ...kubeletStarts(done, seen.nodes)].toSorted((a, b) => a.fromMs - b.fromMs)
  const own = unionMs(work)
  const wall = to - from
  const soakOfEach = rollout.settings?.soak
  const soak = soakOfEach ? rollout.hosts.length * msFromDuration(soakOfEach) : 0
  const over = wall - own - soak
  const hosts = rollout.hosts.length
  const lines = [
    `== ${title}`,
    `requests: ${seen.asked}, lost ${seen.lostCount}, slowest ${seen.slowestMs} ms, pods asked ${seen.pods.length}`,
    `longest without any API server ${seconds(seen.longestWithoutServerMs)} s; each for itself ${Object.values(seen.longestWithoutMs).map(seconds).join(', ')} s`,
    `rollout of ${hosts} hosts: ${seconds(wall)} s, of which somebody worked ${seconds(own)} s, and ${seconds(soak)} s were to soak`,
    `overhead ${seconds(over)} s = ${((100 * over) / wall).toFixed(1)} %, ${seconds(over / hosts)} s a host`,
    'longest times in which nobody worked:',
    ...idleTimes(work, from, to)
      .slice(0, 12)
      .map(({ ms, after, before }) => `  ${seconds(ms)} s between ${after} and ${before}`),
    'work:',
    ...work.map(
      each =>
        `  +${seconds(each.fromMs - from)} ${each.host} ${each.what} ${seconds(each.toMs - each.fromMs)} s`,
    ),
    'nodes:',
    ...seen.nodes.map(
      ({ atMs, node, ready, schedulable, version }) =>
        `  +${seconds(atMs - from)} ${node} ${ready ? 'Ready' : 'not Ready'}${schedulable ? '' : ', cordoned'} ${version}`,
    ),
    ...seen.lost.map(({ atMs, address, why }) => `  lost +${seconds(atMs - from)} ${address} ${why}`),
  ]
  console.log(lines.join('\n'))
}
