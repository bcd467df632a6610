import { readFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { whyNoClusters } from '../../lab/clusters/programs.ts'
import { SET_UP_MS } from '../../lab/why-not.ts'
import { waitUntil } from '../../support/wait-until.ts'
import { CLUSTER, type ClusterFleet, startClusterFleet } from './cluster-fleet.ts'
import { HOSTS, SERVERS, WORKERS } from './rendered-system.ts'
import { untilReady } from './seen-cluster.ts'

/** Of fleet.toml: free in the lab's network, and kept by whichever server's API is ready. */
const ADDRESS = '10.91.0.9'
const WAIT = { timeoutMs: 5 * 60_000, everyMs: 1_000 }
const why = whyNoClusters()
let made: ClusterFleet

/** The servers that have the address now. */
async function keepers(): Promise<readonly string[]> {
  const found: string[] = []
  for (const host of SERVERS) {
    const machine = made.machine(host)
    if (!machine.running) continue
    const shown = await machine.ok(['ip', '-4', '-o', 'address', 'show', 'dev', 'host0'])
    if (shown.includes(` ${ADDRESS}/`)) found.push(host)
  }
  return found
}

async function untilKept(what: string, accept: (host: string) => boolean): Promise<string> {
  return await waitUntil(
    what,
    async () => {
      const [host, ...others] = await keepers()
      return host !== undefined && others.length === 0 && accept(host) ? host : undefined
    },
    WAIT,
  )
}

interface Worker {
  /** Whose server is at the address. */
  readonly authority: string
  /** Who asks, where nobody is told without a name. */
  readonly client: readonly string[]
  /** Where it has the address written down. */
  readonly pointed: string
  /** Hosts that have a Node. */
  readonly nodes: readonly string[]
}

const AGENT = '/var/lib/rancher/k3s/agent'
const WORKER: Readonly<Record<'components' | 'k3s', Worker>> = {
  components: {
    authority: '/var/lib/kubernetes/pki/ca.crt',
    client: [],
    pointed: '/var/lib/kubernetes/kubelet.conf',
    nodes: WORKERS,
  },
  k3s: {
    authority: `${AGENT}/server-ca.crt`,
    client: ['--cert', `${AGENT}/client-kubelet.crt`, '--key', `${AGENT}/client-kubelet.key`],
    pointed: '/run/muster-cluster/start.env',
    nodes: HOSTS,
  },
}

/** Asked by a worker. */
const askedAtAddress = async ({ authority, client }: Worker) =>
  await made
    .machine('n5')
    .exec([...['curl', '-s', '-m', '5', '--cacert', authority, ...client], `https://${ADDRESS}:6443/readyz`])

/** When each node last told the API server that it is there. */
async function renewals(server: string): Promise<ReadonlyMap<string, number>> {
  const jsonpath = String.raw`jsonpath={range .items[*]}{.metadata.name}={.spec.renewTime}{"\n"}{end}`
  const said = await made.kubectl(server, '-n', 'kube-node-lease', 'get', 'leases', '-o', jsonpath)
  return new Map(
    said.split('\n').flatMap(line => {
      const [name = '', time = ''] = line.split('=')
      return name === '' ? [] : [[name, Date.parse(time)] as const]
    }),
  )
}

// Of k3s nobody is told without a name whether a server is ready, not even the keeper of the address; of components everybody is.
const WALKED = [['k3s', WORKER.k3s] as const, ['components', WORKER.components] as const]
const walked = process.env.MUSTER_WALK === 'whole' ? WALKED : WALKED.slice(0, 1)
describe.skipIf(why !== undefined).each(walked)(
  `several servers of %s behind one address ${why ?? ''}`,
  (distribution, worker) => {
    beforeAll(async () => {
      if (why === undefined) {
        made = await startClusterFleet(distribution, { fixture: `${distribution}-behind-one-address` })
      }
    }, SET_UP_MS)
    afterAll(async () => await made?.[Symbol.asyncDispose](), 120_000)

    it('are joined by workers through it, and one of them keeps it', async () => {
      await made.untilJoined(...HOSTS)
      await made.untilVoters(3)
      await untilReady(made, 'n1', worker.nodes)
      for (const host of WORKERS) {
        expect(await made.machine(host).readFile(worker.pointed)).toContain(`https://${ADDRESS}:6443`)
      }
      await untilKept('one server keeps the address', () => true)
      expect((await askedAtAddress(worker)).stdout).toBe('ok')
    })

    it('are reached through it by the operator’s kubeconfig, and by workers, when its keeper loses its power', async () => {
      const file = `${made.lab.lab.dir}/kubeconfig`
      await made.ok('cluster', 'kubeconfig', CLUSTER, '--out', file)
      const text = await readFile(file, 'utf8')
      expect(text).toContain(`server: https://${ADDRESS}:6443`)
      await made.machine('n5').writeFile('/root/kubeconfig', text, '600')
      const keeper = await untilKept('one server keeps the address', () => true)
      const cutMs = Date.now()
      await made.machine(keeper).powerCut()
      const next = await untilKept('another server keeps the address', host => host !== keeper)
      await waitUntil(
        'the API answers at the address',
        async () => ((await askedAtAddress(worker)).stdout === 'ok' ? true : undefined),
        WAIT,
      )
      await made
        .machine('n5')
        .ok([...made.kubectlProgram(), '--kubeconfig=/root/kubeconfig', 'create', 'configmap', 'after'], {
          timeoutMs: 60_000,
        })
      await waitUntil(
        'every worker renews its lease there',
        async () => {
          const renewed = await renewals(next)
          return WORKERS.every(host => (renewed.get(host) ?? 0) > cutMs) ? true : undefined
        },
        WAIT,
      )
      await made.machine(keeper).boot()
      await made.untilVoters(3)
      await untilKept('one server keeps the address', () => true)
    })
  },
)
