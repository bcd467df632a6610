import { createHash, X509Certificate } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { WEB_ANSWER, webDeployment } from '../../lab/clusters/objects.ts'
import { isReal, whyNoClusters } from '../../lab/clusters/programs.ts'
import { SET_UP_MS } from '../../lab/why-not.ts'
import { waitUntil } from '../../support/wait-until.ts'
import { makeByHand } from './by-hand.ts'
import { makeK0sByHand } from './by-hand-k0s.ts'
import { CLUSTER, type ClusterFleet, startClusterFleet } from './cluster-fleet.ts'
import { HOSTS, type Host, SERVERS, WORKERS } from './rendered-system.ts'
import { readNodes, untilAnswers, untilReady } from './seen-cluster.ts'
import { untilNoTokens } from './token-watch.ts'

const APP = 'web'
/** Made by hand; n5 has nothing yet. */
const MEMBERS = [...SERVERS, 'n4'] as const

/** What differs between distributions. */
interface ByHand {
  readonly make: (made: ClusterFleet, workers: readonly Host[]) => Promise<void>
  readonly units: readonly string[]
  /** On a server. */
  readonly authority: string
  /** What names the authority on a worker. */
  readonly workers: string
}

const BY_HAND: Readonly<Record<'components' | 'k0s', ByHand>> = {
  components: {
    make: makeByHand,
    units: ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'containerd', 'kubelet'],
    authority: '/var/lib/kubernetes/pki/ca.crt',
    workers: '/var/lib/kubernetes/pki/ca.crt',
  },
  k0s: {
    make: makeK0sByHand,
    units: ['k0s'],
    authority: '/var/lib/k0s/pki/ca.crt',
    workers: '/var/lib/k0s/kubelet.conf',
  },
}

interface Seen {
  /** Of each host: which certificate its cluster's authority has, and since when its units run. */
  readonly hosts: Readonly<Record<string, string>>
  readonly node: string | undefined
  readonly pods: string
}

/** A cluster that somebody made without Muster is taken in as it runs. The tests follow one another. */
export function adoptByHand(distribution: 'components' | 'k0s'): void {
  const why = whyNoClusters()
  describe.skipIf(why !== undefined)(
    `a cluster of ${nameOf(distribution)} that was made by hand ${why ?? ''}`,
    () => {
      const { make, units, authority, workers } = BY_HAND[distribution]
      let made: ClusterFleet
      let before: Seen

      beforeAll(async () => {
        made = await startClusterFleet(distribution, { life: 'with-system', byHand: true })
        await make(made, ['n4'])
        await untilReady(made, 'n1', ['n4'])
        await made.createObject('n1', webDeployment(APP))
        await untilAnswers(made, 'n1', APP)
        before = await look()
      }, SET_UP_MS)
      afterAll(async () => await made?.[Symbol.asyncDispose](), 120_000)

      /** All that an adoption must leave as it is. */
      async function look(): Promise<Seen> {
        const hosts = await Promise.all(
          MEMBERS.map(async host => {
            const machine = made.machine(host)
            const properties = '--property=Id,ActiveState,MainPID,ExecMainStartTimestampMonotonic,NRestarts'
            const shown = await machine.ok(['systemctl', 'show', properties, ...units])
            return [host, `${await machine.readFile(host === 'n4' ? workers : authority)}\n${shown}`] as const
          }),
        )
        const pod = String.raw`jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[*].containerID} {.status.containerStatuses[*].restartCount}{"\n"}{end}`
        return {
          hosts: Object.fromEntries(hosts),
          node: (await readNodes(made, 'n1')).find(({ name }) => name === 'n4')?.uid,
          pods: await made.kubectl('n1', 'get', 'pods', '-l', `app=${APP}`, '-o', pod),
        }
      }

      const untilAdoptable = async () =>
        await waitUntil(
          'the coordinator would adopt it',
          async () => {
            const said = await made.muster('cluster', 'adopt', CLUSTER, '--dry-run')
            if (said.code !== 0) throw new Error(said.stderr)
            return said.stdout
          },
          { timeoutMs: 120_000, everyMs: 1_000 },
        )

      it('is nobody’s to found, join or touch before it is adopted, though a revision names it', async () => {
        await made.bindAll()
        await made.publish()
        const would = await untilAdoptable()
        expect(would).toContain('Nothing was restarted, and nothing written.')
        const shown = await made.ok('cluster', 'show', CLUSTER)
        expect(shown).toMatch(/adopt/)
        expect((await made.shown()).summary?.authority).toBe('')
        expect(await look()).toEqual(before)
      })

      it('is adopted with its authority, and keeps its nodes and pods; nothing of it is restarted', async () => {
        const said = await made.ok('cluster', 'adopt', CLUSTER)
        for (const host of MEMBERS) expect(said).toContain(host)
        const { summary } = await made.untilJoined(...MEMBERS)
        const certificate = new X509Certificate(await made.machine('n1').readFile(authority))
        const key = certificate.publicKey.export({ format: 'der', type: 'spki' })
        expect(summary?.authority).toBe(createHash('sha256').update(key).digest('hex'))
        await made.untilVoters(3)
        await untilGivenBack()
        expect(await look()).toEqual(before)
      })

      it('has a first plan that is empty on every host', async () => {
        for (const host of MEMBERS) expect(await made.ok('plan', host)).toContain('nothing to do')
        await made.apply(...MEMBERS)
        expect(await look()).toEqual(before)
      })

      it('takes a machine in that has nothing yet, by a token of its own', async () => {
        await made.untilJoined(...HOSTS)
        await untilReady(made, 'n1', WORKERS)
        for (const server of SERVERS) await untilNoTokens(made, server)
        expect(await look()).toEqual(before)
      })

      it('comes back after a power cut from what the adoption left on its disks', async () => {
        const boots = new Map((await readNodes(made, 'n1')).map(({ name, bootId }) => [name, bootId]))
        await made.machine('n4').powerCut()
        await made.machine('n4').boot()
        await made.machine('n2').powerCut()
        await made.machine('n2').boot()
        await untilReady(
          made,
          'n1',
          WORKERS,
          ({ name, bootId }) => name !== 'n4' || bootId !== boots.get(name),
        )
        await made.untilVoters(3)
        expect(await untilAnswers(made, 'n2', APP)).toBe(WEB_ANSWER)
        const now = await look()
        expect(now.node).toBe(before.node)
        expect(now.hosts.n2?.split('\n-----END')[0]).toBe(before.hosts.n2?.split('\n-----END')[0])
      })

      /** Each node has written down, sealed to its own key, what its units need at a boot. */
      async function untilGivenBack(): Promise<void> {
        const READY = '/var/lib/muster-agent/cluster/sealed'
        const has = async (host: Host) => (await made.machine(host).exec(['test', '-d', READY])).code === 0
        await waitUntil(
          'what a boot needs is on every disk',
          async () => (await Promise.all(MEMBERS.map(has))).every(Boolean) || undefined,
          { timeoutMs: 120_000, everyMs: 1_000 },
        )
      }
    },
  )
}

const nameOf = (distribution: 'components' | 'k0s'): string =>
  distribution === 'k0s' && !isReal('k0s') ? 'k0s (stand-in)' : distribution
