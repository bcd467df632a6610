import { type ClusterFacts, isServerRole } from '../cluster-facts.ts'
import type { ClusterDriver, JoinSecret } from '../driver.ts'
import {
  adoptData,
  begin,
  checkPreconditions,
  type Distributed,
  type DriverDeps,
  finish,
  nodeActs,
  ownAddress,
  readState,
  runsWorkloads,
  startWithFiles,
  untilUp,
  whatBecameOf,
} from '../driver-base.ts'
import type { EtcdAccess } from '../etcd/etcd-client.ts'
import { SPENT_TOKEN } from '../kubernetes/bootstrap-tokens.ts'
import { createKubectl } from '../kubernetes/kubectl.ts'
import type { WaitOptions } from '../kubernetes/wait-options.ts'
import { readCertificateEnds } from '../node/certificates.ts'
import { MARKS_OF_DATA } from '../node/cluster-files.ts'
import { programVersion } from '../program-version.ts'
import { DONE, done, failed, type Result } from '../result.ts'
import { leaveSelf, sharedActs, standDown } from '../shared-acts.ts'
import { giveBackFiles } from './adopt-components.ts'
import { componentsActs } from './components-acts.ts'
import { componentsSnapshots, type FirstServer } from './components-snapshots.ts'
import { FIRST_OBJECTS } from './first-objects.ts'
import { otherClients, peerUrl, startEnvironment } from './initial-cluster.ts'
import { bringIn, joinOwnKubelet, putSpentKubeconfig, turnToOwnServer } from './own-kubelet.ts'
import {
  AUTHORITY_FILES,
  bootstrapKubeconfig,
  KUBERNETES_DIR,
  kubeadmConfig,
  makeCertificates,
  PKI,
} from './pki.ts'
import { hasStaticPods, stopComponents, stopForGood } from './stop-components.ts'

export const etcdAt = (address: string): EtcdAccess => ({
  address,
  client: {
    ca: `${PKI}/etcd/ca.crt`,
    cert: `${PKI}/apiserver-etcd-client.crt`,
    key: `${PKI}/apiserver-etcd-client.key`,
  },
  peer: { ca: `${PKI}/etcd/ca.crt`, cert: `${PKI}/etcd/peer.crt`, key: `${PKI}/etcd/peer.key` },
})
const KUBELET_CERTIFICATE = '/var/lib/kubelet/pki/kubelet-client-current.pem'
const SUPER_ADMIN = `${KUBERNETES_DIR}/super-admin.conf`

/** `components` and nixpkgs' `kubernetes`: programs one by one, whose certificates the agent makes with kubeadm. */
export function createComponentsDriver(deps: DriverDeps): ClusterDriver {
  const { system, facts, files, nodeName } = deps
  const programs = { system, folders: facts.programs }
  const server = isServerRole(facts.role)
  const hasKubelet = facts.units.includes('kubelet.service')
  const kubectlAs = (conf: string) =>
    createKubectl({
      programs,
      program: 'kubectl',
      before: [`--kubeconfig=${conf}`],
      kubeconfig: conf,
      askApi: deps.askApi,
    })
  const kubectl = kubectlAs(`${KUBERNETES_DIR}/admin.conf`)
  const of: Distributed = {
    deps,
    programs,
    kubectl,
    etcd: () => deps.connectEtcd(etcdAt('127.0.0.1:2379')),
    needs: {
      users: facts.distribution === 'kubernetes' ? ['kubernetes', ...(server ? ['etcd'] : [])] : [],
      tcpPorts: [...(server ? [facts.apiPort, 2379, 2380] : []), ...(hasKubelet ? [10250] : [])],
      workloads: runsWorkloads(facts),
    },
    neededPrograms: [
      ...(server
        ? ['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler', 'kubeadm', 'kubectl']
        : []),
      ...(hasKubelet ? ['kubelet'] : []),
    ],
    whyUnfit: whyForeignDatastore(facts),
    stop: async signal => await stopComponents(of, signal),
    beforeStart: async () => await turnToOwnServer(deps),
    authorityFiles: [`${PKI}/ca.crt`],
    datastore: `${facts.etcdDataDir}/member`,
    installedVersion: async signal =>
      await programVersion(
        programs,
        server ? 'kube-apiserver' : 'kubelet',
        { args: ['--version'], pattern: /v(\d+\.\d+\.\d+)/ },
        signal,
      ),
  }
  const isReady = async () => (await kubectl.getText('/readyz')).kind === 'done'
  const kubeletIsIn = async () =>
    (await system.exists(`${KUBERNETES_DIR}/kubelet.conf`)).kind === 'present' &&
    (await system.exists(KUBELET_CERTIFICATE)).kind === 'present'
  const first: FirstServer = {
    make: async signal => await makeServer(of, true, signal),
    start: async (what, operation, options) => {
      const address = await ownAddress(deps)
      if (address === undefined) return failed('precondition', 'the address of this node is not known yet')
      if (hasStaticPods(facts)) await putSpentKubeconfig(of, address)
      const started = await startWithFiles(of, options.signal)
      if (started.kind === 'failed') return started
      const wide = kubectlAs(SUPER_ADMIN)
      const up = await untilUp(of, what, options, async () => {
        const ready = [await wide.getText('/readyz'), await kubectl.getText('/readyz')]
        return ready.some(({ kind }) => kind === 'done')
      })
      if (up.kind === 'failed') return up
      if ((await files.read(SUPER_ADMIN)) !== undefined) {
        const bound = await wide.apply(FIRST_OBJECTS, 'muster', options.signal)
        if (bound.kind === 'failed') return bound
        // It goes past every rule of access, and nothing needs it any more.
        await files.remove(SUPER_ADMIN)
      }
      const own = hasKubelet ? await joinOwnKubelet(of, operation, address, options, kubeletIsIn) : DONE
      if (own.kind === 'failed') return own
      await files.put('start.env', startEnvironment(`${nodeName}=${peerUrl(address)}`, 'existing'))
      return DONE
    },
  }
  const what = `node ${nodeName} of cluster ${facts.cluster}`
  const joinWorker = async (secret: JoinSecret, options: WaitOptions): Promise<Result<void>> => {
    const put = async (token: string) => {
      const conf = bootstrapKubeconfig(secret.files.get('ca.crt') ?? '', secret.server, token)
      await files.put('bootstrap-kubelet.conf', conf)
    }
    if (hasKubelet) await put(secret.token)
    const started = await startWithFiles(of, options.signal)
    if (started.kind === 'failed' || !hasKubelet) return started
    const up = await untilUp(of, what, options, kubeletIsIn)
    if (up.kind === 'failed') return up
    await put(SPENT_TOKEN)
    return DONE
  }
  const joinServer = async (secret: JoinSecret, options: WaitOptions): Promise<Result<void>> => {
    const address = await ownAddress(deps)
    if (address === undefined) return failed('precondition', 'the address of this node is not known yet')
    if (hasStaticPods(facts)) await putSpentKubeconfig(of, address)
    const voted = await startMember(of, secret, options)
    if (voted.kind === 'failed') return voted
    const up = await untilUp(of, what, options, isReady)
    if (up.kind === 'failed' || !hasKubelet) return up
    const { token } = secret
    const isIn = await kubeletIsIn()
    const own = isIn ? DONE : await bringIn(of, { address, token, options, kubeletIsIn })
    if (own.kind === 'failed') return own
    await putSpentKubeconfig(of, address)
    return DONE
  }
  return {
    distribution: facts.distribution,
    facts,
    nodeName,
    ...nodeActs(of),
    checkPreconditions: async () => await checkPreconditions(of),
    readState: async signal => await readState(of, signal),
    found: async (operation, options) => {
      const over = await whatBecameOf(of, operation)
      if (over) return over
      const refused = await begin(of, operation)
      if (refused) return refused
      const made = await first.make(options.signal)
      if (made.kind === 'failed') return made
      await files.put('start.env', startEnvironment(`${nodeName}=${peerUrl(made.value)}`, 'new'))
      const up = await first.start('the first server', operation, options)
      return up.kind === 'failed' ? up : await finish(of, operation)
    },
    join: async (operation, secret, options) => {
      const problem = whyNotJoin(secret, server, hasKubelet)
      if (problem !== undefined) return failed('token-refused', problem)
      const over = await whatBecameOf(of, operation)
      if (over) return over
      const refused = await begin(of, operation)
      if (refused) return refused
      for (const [name, text] of secret.files)
        await files.write(`${PKI}/${name}`, text, name.endsWith('.key') ? 0o600 : 0o644)
      const joined = server ? await joinServer(secret, options) : await joinWorker(secret, options)
      return joined.kind === 'failed' ? joined : await finish(of, operation)
    },
    wipe: async signal => {
      await files.mark('hold')
      const stopped = await stopForGood(of, signal)
      if (stopped.kind === 'failed') return stopped
      await files.clear()
      // With the datastore goes what a restore kept of an older one.
      const datastore = ['member', 'before-restore', 'restored'].map(name => `${facts.etcdDataDir}/${name}`)
      for (const path of [PKI, ...datastore, '/var/lib/kubelet/pki']) await files.remove(path)
      for (const name of await files.list(KUBERNETES_DIR)) {
        if (name.endsWith('.conf')) await files.remove(`${KUBERNETES_DIR}/${name}`)
      }
      for (const mark of [...MARKS_OF_DATA, 'hold'] as const) await files.unmark(mark)
      return DONE
    },
    adopt: async authority =>
      await adoptData(of, authority, async () => {
        const given = await giveBackFiles(of, hasKubelet)
        if (given.kind === 'failed' || !server || (await files.readMark('ours')) === authority) return given
        // Who made it may have approved kubelets by hand, and named its administrators otherwise.
        const bound = await kubectl.apply(FIRST_OBJECTS, 'muster')
        return bound.kind === 'failed'
          ? failed(
              bound.class,
              `what machines that join need could not be bound in the cluster: ${bound.reason}`,
            )
          : DONE
      }),
    standDown: async (restoredMs, options) => await standDown(of, restoredMs, options),
    leave: async (operation, options) => await leaveSelf(of, operation, options),
    certificates: async () =>
      await readCertificateEnds(files, [PKI, `${PKI}/etcd`, '/var/lib/kubelet/pki', KUBERNETES_DIR]),
    cluster: {
      ...sharedActs(of),
      ...componentsActs(of, async signal => await makeServer(of, false, signal)),
      ...componentsSnapshots(of, isReady, first),
    },
  }
}

/** Servers are counted by the members of the etcd that runs on them: beside another one nobody could join, leave or be restored. */
function whyForeignDatastore({ cluster, role, units }: ClusterFacts): string | undefined {
  return !isServerRole(role) || units.includes('etcd.service')
    ? undefined
    : `no etcd runs on this server by its configuration, and cluster ${cluster} can have no other: leave etcd.enable alone`
}

/** Makes what this server needs of certificates and kubeconfigs; answers its address. */
async function makeServer(of: Distributed, founding: boolean, signal?: AbortSignal): Promise<Result<string>> {
  const { deps } = of
  const { facts, nodeName } = deps
  const address = await ownAddress(deps)
  const version = await of.installedVersion(signal)
  if (address === undefined) return failed('precondition', 'the address of this node is not known yet')
  if (version === undefined)
    return failed('precondition', 'kube-apiserver does not say its version: install it')
  const config = kubeadmConfig({
    node: nodeName,
    address,
    port: facts.apiPort,
    version,
    names: facts.certificateNames,
    podCidr: facts.podCidr,
    serviceCidr: facts.serviceCidr,
    domain: facts.clusterDomain,
    etcdDataDir: facts.etcdDataDir,
  })
  const made = await makeCertificates(of, config, founding, signal)
  return made.kind === 'failed' ? made : done(address)
}

function whyNotJoin(secret: JoinSecret, server: boolean, hasKubelet: boolean): string | undefined {
  if (secret.distribution !== 'components' && secret.distribution !== 'kubernetes') {
    return `the secret is one of ${secret.distribution}`
  }
  const wanted = server ? AUTHORITY_FILES : ['ca.crt']
  const missing = wanted.filter(name => !secret.files.has(name))
  if (missing.length > 0) return `the secret does not hold ${missing.join(', ')}`
  // A worker has no use for them.
  if (!server && [...secret.files.keys()].some(name => name.endsWith('.key')))
    return 'the secret of a worker holds keys of the cluster'
  if (server && secret.initialCluster === undefined)
    return 'the secret does not say which members the datastore has'
  if (hasKubelet && secret.token === '') return 'the secret holds no token for the kubelet'
  return undefined
}

/** Starts a server whose datastore member was added as a learner, and has it promoted when it is in step. */
async function startMember(of: Distributed, secret: JoinSecret, options: WaitOptions): Promise<Result<void>> {
  const { deps } = of
  const made = await makeServer(of, false, options.signal)
  if (made.kind === 'failed') return made
  const own = peerUrl(made.value)
  const cluster = secret.initialCluster ?? ''
  if (!cluster.includes(own))
    return failed('token-refused', `the secret is for another address than ${made.value}`)
  await deps.files.put('start.env', startEnvironment(cluster, 'existing'))
  const started = await startWithFiles(of, options.signal)
  if (started.kind === 'failed') return started
  const others = otherClients(cluster, own).map(address => deps.connectEtcd(etcdAt(address)))
  return await untilUp(of, 'the vote of the datastore member', options, async () => {
    for (const other of others) {
      const members = await other.members(options.signal)
      const member =
        members.kind === 'done' ? members.value.find(each => each.peerUrls.includes(own)) : undefined
      if (!member) continue
      if (!member.learner) return true
      if ((await other.promote(member.id, options.signal)).kind === 'done') return true
    }
    return false
  })
}
