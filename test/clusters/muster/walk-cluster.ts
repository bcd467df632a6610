import { readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { generateMachineKey } from '../../../shared/x509/machine-key.ts'
import { WEB_ANSWER, webDeployment } from '../../lab/clusters/objects.ts'
import { isReal, whyNoClusters } from '../../lab/clusters/programs.ts'
import { SET_UP_MS } from '../../lab/why-not.ts'
import { waitUntil } from '../../support/wait-until.ts'
import { expectChangedRuntime } from './changed-runtime.ts'
import { CLUSTER, type ClusterFleet, startClusterFleet } from './cluster-fleet.ts'
import { broughtTo, type SeenForeign, seeForeign } from './foreign-host.ts'
import { expectForeignSecretRefused } from './foreign-secret.ts'
import { publishJobGate, publishNoJobGate, untilHeldByJob, untilNoGateJobs } from './job-gate.ts'
import { expectLostDatastore, expectStoodDown } from './lost-datastore.ts'
import { expectNewCertificates } from './new-certificates.ts'
import { expectNewToken } from './new-token.ts'
import { expectManifestsBrought } from './published-manifests.ts'
import { HOSTS, type Host, isPackaged, type LabDistribution, SERVERS, WORKERS } from './rendered-system.ts'
import { readNodes, untilAnswers, untilReady } from './seen-cluster.ts'
import { expectServersLost } from './servers-lost.ts'
import { findSecrets, listTokens, untilNoTokens, watchTokens } from './token-watch.ts'

const FIRST = '1.34.3'
const NEXT = '1.35.4'
const APP = 'web'
/** A host whose system is somebody else's, where a cluster has one: all that befalls a worker befalls it. */
const foreignOf = (distribution: LabDistribution): readonly Host[] =>
  distribution === 'components' ? ['n5'] : []

/** Lets a server leave. A member that has just come back is well to one server sooner than to another: it is asked again. */
const leaves = (made: ClusterFleet, host: Host) =>
  waitUntil(`${host} leaves`, () => made.ok('leave', host), { timeoutMs: 120_000 })

/** Whether a distribution is walked to its end: one always is, the others when MUSTER_WALK says "whole". */
const isWhole = (distribution: LabDistribution): boolean =>
  distribution === 'components' || process.env.MUSTER_WALK === 'whole'

/**
 * The life of a cluster of three servers and two workers, by an operator's commands alone: from five empty machines until
 * everything that can befall them did. The tests follow one another.
 */
export function walkCluster(distribution: LabDistribution): void {
  const why = whyNoClusters()
  /** Which hosts have a Node of their own. */
  const nodes = distribution === 'k3s' || distribution === 'kubernetes' ? HOSTS : WORKERS
  /** Whose token is spent: a k0s controller's too, and that of a server which has a kubelet; what k3s' servers join with is permanent. */
  const spenders = distribution === 'k0s' || distribution === 'kubernetes' ? HOSTS : WORKERS
  const foreign = foreignOf(distribution)
  const own = HOSTS.filter(host => !foreign.includes(host))
  /** Of each foreign host, before anything of Kubernetes was on it. */
  const untouched = new Map<Host, SeenForeign>()
  let made: ClusterFleet
  let authority = ''
  let machineId = ''

  beforeAll(async () => {
    if (why === undefined) made = await startClusterFleet(distribution, { foreign })
  }, SET_UP_MS)
  afterAll(async () => await made?.[Symbol.asyncDispose](), 120_000)
  // What follows would wait for minutes, act by act, for what cannot come any more, and say nothing new.
  let broken: string | undefined
  beforeEach(({ onTestFailed, task }) => {
    if (broken !== undefined) throw new Error(`not walked, since an act before failed: ${broken}`)
    onTestFailed(() => {
      broken = task.name
    })
  })

  const expectUntouched = async () => {
    for (const [host, { others, brought }] of untouched) {
      expect(brought).toEqual([])
      expect(await seeForeign(made, host)).toEqual({ others, brought: broughtTo(made, host) })
    }
  }

  const skip = why !== undefined
  describe.skipIf(skip)(`a cluster of ${nameOf(distribution)} ${why ?? ''}`, () => {
    it('is founded once and joined by every machine, by publishing and applying alone', async () => {
      const { summary } = await made.untilJoined(...own)
      authority = summary?.authority ?? ''
      expect(authority).toMatch(/^[0-9a-f]{64}$/)
      await made.untilVoters(3)
      const theirs = nodes.filter(name => own.includes(name))
      await untilReady(made, 'n1', theirs, ({ version }) => version === FIRST)
    })

    // Not skipped but not there where all systems are the fleet's.
    if (foreign.length > 0) {
      it('is joined by a machine whose system is somebody else’s, which gets Kubernetes and nothing else', async () => {
        for (const host of foreign) untouched.set(host, await seeForeign(made, host))
        for (const host of foreign) {
          const refused = await made.muster('apply', host)
          expect(refused.code).not.toBe(0)
          expect(`${refused.stdout}${refused.stderr}`).toMatch(/somebody else's.*muster cluster upgrade lab/)
        }
        await made.prepare()
        await made.untilJoined(...HOSTS)
        await untilReady(made, 'n1', nodes, ({ version }) => version === FIRST)
        await expectUntouched()
      })
    }

    it('runs a pod that answers', async () => {
      await made.createObject('n1', webDeployment(APP))
      expect(await untilAnswers(made, 'n1', APP)).toBe(WEB_ANSWER)
    })

    it('has no token left on its servers, and spent ones on its nodes', async () => {
      for (const server of SERVERS) await untilNoTokens(made, server)
      for (const host of spenders) expect(await made.joinTokenOf(host)).toContain('spent0.0000000000000000')
    })
  })

  // Not skipped but not there: what is left out is asked for by MUSTER_WALK.
  if (!isWhole(distribution)) return
  describe.skipIf(skip)(`later, a cluster of ${nameOf(distribution)}`, () => {
    it('cordons a node, and drains and uncordons another', async () => {
      await made.ok('cordon', 'n5')
      expect((await readNodes(made, 'n1')).filter(node => node.unschedulable)).toMatchObject([{ name: 'n5' }])
      await made.ok('uncordon', 'n5')
      await made.ok('drain', 'n4')
      const jsonpath = 'jsonpath={.items[?(@.spec.nodeName=="n4")].metadata.name}'
      expect(await made.kubectl('n1', 'get', 'pods', '-o', jsonpath)).toBe('')
      expect((await readNodes(made, 'n1')).filter(node => node.unschedulable)).toMatchObject([{ name: 'n4' }])
      await made.ok('uncordon', 'n4')
      expect((await readNodes(made, 'n1')).filter(node => node.unschedulable)).toEqual([])
      expect(await untilAnswers(made, 'n1', APP)).toBe(WEB_ANSWER)
    })

    // Of k3s and k0s it is a part, which restarts with them.
    if (!isPackaged(distribution)) {
      it('brings a container runtime another configuration, after a drain and with a way back', async () => {
        await expectChangedRuntime(made, 'n4', APP)
        expect(await untilAnswers(made, 'n1', APP)).toBe(WEB_ANSWER)
      })
    }

    it('asks a Job of the fleet directory before a node is touched, and waits as long as it fails', async () => {
      const cordoned = async () =>
        (await readNodes(made, 'n1')).filter(node => node.unschedulable).map(({ name }) => name)
      const failing = "echo 'all is looked at'; echo 'replicas are missing'; exit 1"
      await publishJobGate(made, failing)
      const draining = made.muster('drain', 'n5')
      const rollout = await untilHeldByJob(made, 'n5', 'replicas are missing')
      expect(await made.ok('rollout', 'show', rollout)).toMatch(
        /n5 .*waits at jobs: gate smoke is unhealthy: Job default\/smoke failed: .*; its log ends with: replicas are missing/,
      )
      // It is asked again only after a while.
      await untilNoGateJobs(made, 'n1')
      expect(await cordoned()).toEqual([])
      await publishJobGate(made, 'exit 0')
      expect(await draining).toMatchObject({ code: 0 })
      expect(await cordoned()).toEqual(['n5'])
      // What gives a node back waits for no Job.
      await publishJobGate(made, failing)
      await made.ok('uncordon', 'n5')
      expect(await cordoned()).toEqual([])
      await publishNoJobGate(made)
      await untilNoGateJobs(made, 'n1')
      await untilReady(made, 'n1', nodes)
    })

    it('gives its operator a kubeconfig that works', async () => {
      const file = `${made.lab.lab.dir}/kubeconfig`
      await made.ok('cluster', 'kubeconfig', CLUSTER, '--out', file)
      await made.machine('n5').writeFile('/root/kubeconfig', await readFile(file, 'utf8'), '600')
      const asked = await made
        .machine('n5')
        .ok([...made.kubectlProgram(), '--kubeconfig=/root/kubeconfig', 'get', '--raw', '/readyz'])
      expect(asked).toBe('ok')
    })

    it('brings the manifests of the fleet directory, and prunes what is gone from them and nothing else', async () => {
      await expectManifestsBrought(made, 'n1')
    })

    it('makes the certificates of a server anew, and tells when they end', async () => {
      await expectNewCertificates(made, { of: 'n2', not: 'n3' })
      await untilReady(made, 'n1', nodes)
    })

    it('lets a worker leave and come back', async () => {
      await made.ok('leave', 'n5')
      expect((await readNodes(made, 'n1')).map(({ name }) => name)).not.toContain('n5')
      await made.ok('rejoin', 'n5')
      await made.untilJoined('n5')
      await untilReady(made, 'n1', nodes)
    })

    it('lets no copy of a node come in', async () => {
      await made.ok('leave', 'n5')
      machineId = await made.machine('n5').readFile('/etc/machine-id')
      await made.takeMachineId('n5', await made.machine('n4').readFile('/etc/machine-id'))
      await made.ok('rejoin', 'n5')
      await made.untilWaits('n5', /node n4 has the same machine id/)
      expect((await readNodes(made, 'n1')).map(({ name }) => name)).not.toContain('n5')
      expect(await listTokens(made, 'n1')).toEqual([])
    })

    it('has no token minted for another key than the signed revision names, whatever the coordinator says', async () => {
      const another = await generateMachineKey(2048)
      const own = await made.substituteKey('n5', another.publicKeyDer)
      await made.takeMachineId('n5', machineId)
      await made.untilWaits('n5', /n5 is machine [0-9a-f]{64} by the signed manifest, not [0-9a-f]{64}/)
      expect((await readNodes(made, 'n1')).map(({ name }) => name)).not.toContain('n5')
      expect(await listTokens(made, 'n1')).toEqual([])
      await made.substituteKey('n5', own)
      await made.untilJoined('n5')
      await untilReady(made, 'n1', nodes)
    })

    it('takes no token of another cluster, by whomever it was sealed, and nothing of it lasts', async () => {
      await made.ok('leave', 'n5')
      await expectForeignSecretRefused(made, { joiner: 'n5', server: 'n1' })
      await made.untilJoined('n5')
      await untilReady(made, 'n1', nodes)
    })

    it('lets a server leave only with a majority afterwards, and come back', async () => {
      await made.machine('n2').powerCut()
      await made.untilVoters(3, 2)
      // Of the two that would be left one is away.
      const refused = await made.muster('leave', 'n3', '--timeout', '10s')
      expect(refused.code).not.toBe(0)
      await made.untilVoters(3, 2)
      // A server of k3s is not started before it is a member again: its boot may be long in coming to its end.
      await made.machine('n2').boot({ wait: false })
      await made.untilVoters(3)
      await leaves(made, 'n3')
      await made.untilVoters(2)
      await made.ok('rejoin', 'n3')
      await made.untilJoined('n3')
      await made.untilVoters(3)
    })

    it('takes a machine back that was installed anew, under its old name, and shows its token to nobody', async () => {
      await made.machine('n5').powerCut()
      await made.lab.untilOffline('n5')
      await made.ok('remove', 'n5', '--dead')
      const watch = await watchTokens(made, 'n1')
      await made.replaceMachine('n5')
      await made.untilJoined('n5')
      await untilReady(made, 'n1', nodes)
      const secrets = await watch.read()
      expect(secrets.length).toBeGreaterThan(0)
      expect(await findSecrets(made, secrets)).toEqual([])
      expect(await made.findInCoordinator(secrets)).toEqual([])
      await untilNoTokens(made, 'n1')
    })

    it('goes on without its founder, whose machine is lost for good, and takes its successor in', async () => {
      await made.machine('n1').powerCut()
      await made.untilVoters(3, 2)
      await made.lab.untilOffline('n1')
      await made.ok('remove', 'n1', '--dead')
      const { summary } = await made.untilShown('another first server', ({ summary: now }) =>
        ['n2', 'n3'].includes(now?.firstServer ?? ''),
      )
      expect(summary?.authority).toBe(authority)
      expect(await untilAnswers(made, 'n2', APP)).toBe(WEB_ANSWER)
      await made.replaceMachine('n1')
      const joined = await made.untilJoined('n1')
      expect(joined.summary).toMatchObject({ authority, standing: summary?.standing })
      await made.untilVoters(3)
      await untilReady(made, 'n1', nodes)
    })

    it('takes a server back that lost its datastore alone, by two commands', async () => {
      await expectLostDatastore(made, 'n3')
    })

    // Not skipped but not there: of the others none has a token that lasts.
    if (distribution === 'k3s') {
      it('makes the tokens of servers and agents anew while they run, and one that loses its power between two comes back', async () => {
        await expectNewToken(made, { by: 'n2', cut: 'n3' })
        await untilReady(made, 'n1', nodes)
        await leaves(made, 'n3')
        await made.untilVoters(2)
        await made.ok('leave', 'n5')
        for (const host of ['n3', 'n5']) await made.ok('rejoin', host)
        await made.untilJoined('n3', 'n5')
        await made.untilVoters(3)
        await untilReady(made, 'n1', nodes)
        expect(await untilAnswers(made, 'n1', APP)).toBe(WEB_ANSWER)
      })
    }

    it('goes back to a snapshot', async () => {
      await made.kubectl('n2', 'create', 'configmap', 'before')
      await made.ok('cluster', 'snapshot', CLUSTER, '--name', 'first', '--on', 'n2')
      await made.kubectl('n2', 'create', 'configmap', 'after')
      await leaves(made, 'n3')
      await leaves(made, 'n1')
      await made.ok('cluster', 'restore', CLUSTER, 'first', '--yes')
      await made.ok('rejoin', 'n1')
      await made.ok('rejoin', 'n3')
      await made.untilJoined(...HOSTS)
      await made.untilVoters(3)
      const names = await made.kubectl('n1', 'get', 'configmaps', '-o', 'name')
      expect(names).toContain('configmap/before')
      expect(names).not.toContain('configmap/after')
      await untilReady(made, 'n1', nodes)
      expect(await untilAnswers(made, 'n1', APP)).toBe(WEB_ANSWER)
    })

    // k3s and k0s number the datastore by where it was restored alone: those that joined after an earlier restore there are let in.
    // Of the others it is a part of the whole walk, for its time.
    if (!isPackaged(distribution) && process.env.MUSTER_WALK === 'whole') {
      it('stops servers that come back with what there was before a restore, until they are wiped', async () => {
        await expectStoodDown(made, 'n2')
        await untilReady(made, 'n1', nodes)
        expect(await untilAnswers(made, 'n1', APP)).toBe(WEB_ANSWER)
      })
    }

    it('moves to the next minor node by node, with kubelets at two versions meanwhile', async () => {
      const before = await made.systemsNow()
      await made.editFleetFile(text => text.replace(`version = "${FIRST}"`, `version = "${NEXT}"`))
      await made.writeSystems(NEXT)
      await made.publish()
      const seen = new Set<string>()
      const moving = { over: false }
      const watch = (async () => {
        while (!moving.over) {
          const now = await readNodes(made, 'n1').catch(() => [])
          seen.add(now.map(({ version }) => version).join())
          await sleep(1_000)
        }
      })()
      try {
        await made.ok('cluster', 'upgrade', CLUSTER, NEXT, '--directory', made.directory)
      } finally {
        moving.over = true
        await watch
      }
      await untilReady(made, 'n1', nodes, ({ version }) => version === NEXT)
      // At some moment one kubelet had moved and another had not.
      expect([...seen].some(versions => versions.includes(FIRST) && versions.includes(NEXT))).toBe(true)
      await made.untilVoters(3)
      expect(await made.systemsNow()).toEqual(before)
      await expectUntouched()
      expect(await untilAnswers(made, 'n1', APP)).toBe(WEB_ANSWER)
    })

    it('comes back from a power cut of all its machines with the coordinator gone', async () => {
      await made.lab.fleet.coordinator?.kill()
      const before = new Map((await readNodes(made, 'n1')).map(({ name, bootId }) => [name, bootId]))
      await Promise.all(HOSTS.map(host => made.machine(host).powerCut()))
      await Promise.all(HOSTS.map(host => made.machine(host).boot({ wait: false })))
      await untilReady(made, 'n1', nodes, ({ name, bootId }) => bootId !== before.get(name))
      expect(await untilAnswers(made, 'n3', APP)).toBe(WEB_ANSWER)
      await made.lab.fleet.startCoordinator()
      await made.untilJoined(...HOSTS)
      await made.untilVoters(3)
      expect((await made.shown()).summary?.authority).toBe(authority)
      await expectUntouched()
    })

    it('is brought back by a snapshot that was carried elsewhere, when the disks of all its servers are lost', async () => {
      await expectServersLost(made, authority)
    })
  })
}

const nameOf = (distribution: LabDistribution): string =>
  isPackaged(distribution) && !isReal(distribution) ? `${distribution} (stand-in)` : distribution
