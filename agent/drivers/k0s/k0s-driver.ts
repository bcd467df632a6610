import { isServerRole, isWorkerRole } from '../cluster-facts.ts'
import type { ClusterActs, ClusterDriver } from '../driver.ts'
import {
  adoptData,
  begin,
  checkPreconditions,
  type Distributed,
  type DriverDeps,
  finish,
  nodeActs,
  readState,
  startWithFiles,
  untilUp,
  whatBecameOf,
} from '../driver-base.ts'
import type { EtcdAccess } from '../etcd/etcd-client.ts'
import { deleteBootstrapToken, listBootstrapTokens } from '../kubernetes/bootstrap-tokens.ts'
import { hostIn } from '../kubernetes/check-joiner.ts'
import { createKubectl, isNotFound } from '../kubernetes/kubectl.ts'
import { leafNames, readCertificateEnds } from '../node/certificates.ts'
import { MARKS_OF_DATA } from '../node/cluster-files.ts'
import { stopUnits } from '../node/services.ts'
import { untilPodsAreGone } from '../node/until-pods-are-gone.ts'
import { programVersion } from '../program-version.ts'
import { DONE, done, failed, type Result } from '../result.ts'
import { runProgram } from '../run-program.ts'
import {
  deleteNode,
  judgeLeaving,
  leaveSelf,
  sharedActs,
  standDown,
  untilMemberGone,
  untilSettled,
} from '../shared-acts.ts'
import { mintK0sToken } from './k0s-mint.ts'
import { k0sSnapshots } from './k0s-snapshots.ts'
import { readK0sToken, spendK0sToken } from './k0s-token.ts'
import {
  FOUNDING,
  JOIN_PORT,
  joining,
  K0S_DATA,
  K0S_PKI,
  RESET_CONFIG,
  resetConfig,
  settleFounder,
  settleWorker,
} from './k0s-unit.ts'

const ETCD: EtcdAccess = {
  address: '127.0.0.1:2379',
  client: {
    ca: `${K0S_PKI}/etcd/ca.crt`,
    cert: `${K0S_PKI}/apiserver-etcd-client.crt`,
    key: `${K0S_PKI}/apiserver-etcd-client.key`,
  },
  peer: { ca: `${K0S_PKI}/etcd/ca.crt`, cert: `${K0S_PKI}/etcd/peer.crt`, key: `${K0S_PKI}/etcd/peer.key` },
}
const CALL_MS = 60_000
const PODS = { socket: '/run/k0s/containerd.sock', kubelet: `${K0S_DATA}/kubelet` }
/** Of containerd; k0s writes it where nobody did, beside what the configuration brings, and marks it as its own. */
const RUNTIME_CONFIG = '/etc/k0s/containerd.toml'
const OF_K0S = '# k0s_managed=true'
const USERS = ['etcd', 'kube-apiserver', 'kube-scheduler', 'konnectivity-server']
export function createK0sDriver(deps: DriverDeps): ClusterDriver {
  const { system, facts, files, nodeName } = deps
  const programs = { system, folders: facts.programs }
  const server = isServerRole(facts.role)
  const kubectl = createKubectl({
    programs,
    program: 'k0s',
    before: ['kubectl'],
    kubeconfig: `${K0S_PKI}/admin.conf`,
    askApi: deps.askApi,
  })
  const of: Distributed = {
    deps,
    programs,
    kubectl,
    etcd: () => deps.connectEtcd(ETCD),
    needs: {
      users: server ? USERS : [],
      tcpPorts: [
        ...(server ? [facts.apiPort, JOIN_PORT, 2379, 2380] : []),
        ...(isWorkerRole(facts.role) ? [10250] : []),
      ],
      workloads: isWorkerRole(facts.role),
    },
    neededPrograms: ['k0s'],
    // A worker has its authority in its kubeconfig at least.
    authorityFiles: [`${K0S_PKI}/ca.crt`, `${K0S_DATA}/kubelet.conf`],
    datastore: `${K0S_DATA}/etcd/member`,
    installedVersion: async signal =>
      await programVersion(programs, 'k0s', { args: ['version'], pattern: /v(\d+\.\d+\.\d+)/ }, signal),
  }
  const isMember = async () => {
    if ((await kubectl.getText('/readyz')).kind === 'failed') return false
    const own = await of.etcd().status()
    return own.kind === 'done' && !own.value.learner && own.value.leaderId !== '0'
  }
  // What k0s says of a worker's connection is false on a healthy worker, too: only what it was given counts.
  const hasCertificate = async () =>
    (await system.exists(`${K0S_DATA}/kubelet.conf`)).kind === 'present' &&
    (await system.exists(`${K0S_DATA}/kubelet/pki/kubelet-client-current.pem`)).kind === 'present'
  const isUp = async () =>
    (!server || (await isMember())) && (!isWorkerRole(facts.role) || (await hasCertificate()))
  return {
    distribution: 'k0s',
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
      await files.put('start.env', FOUNDING)
      const started = await startWithFiles(of, options.signal)
      if (started.kind === 'failed') return started
      const up = await untilUp(of, 'the first controller', options, isUp)
      if (up.kind === 'failed') return up
      const settled = await settleFounder(deps)
      return settled.kind === 'failed' ? settled : await finish(of, operation)
    },
    join: async (operation, secret, options) => {
      const over = await whatBecameOf(of, operation)
      if (over) return over
      const refused = await begin(of, operation)
      if (refused) return refused
      const token = readK0sToken(secret.token)
      if (secret.distribution !== 'k0s' || !token)
        return failed('token-refused', 'the secret holds no token of k0s')
      if (token.kind !== (server ? 'controller' : 'worker')) {
        return failed(
          'token-refused',
          `the secret's token is one for a ${token.kind}, this machine is a ${facts.role}`,
        )
      }
      await files.put('token', secret.token)
      if (server) await files.put('start.env', joining(files.runDir))
      const started = await startWithFiles(of, options.signal)
      if (started.kind === 'failed') return started
      const up = await untilUp(of, `node ${nodeName} of cluster ${facts.cluster}`, options, isUp)
      if (up.kind === 'failed') return up
      await files.put('token', spendK0sToken(token))
      return await finish(of, operation)
    },
    wipe: async signal => {
      await files.mark('hold')
      const stopped = await stopUnits(system, facts.units, signal)
      if (stopped.kind === 'failed') return stopped
      // Containers and mounts; what it does not take away is taken away below.
      await files.write(RESET_CONFIG, resetConfig())
      const args = ['reset', `--config=${RESET_CONFIG}`]
      const reset = await runProgram(programs, 'k0s', { args, deadlineMs: 3 * CALL_MS, signal })
      await files.remove(RESET_CONFIG)
      if (reset.kind === 'failed') return reset
      // It ends well, too, where its runtime did not start or a pod did not end.
      const gone = await untilPodsAreGone(of, PODS, signal)
      if (gone.kind === 'failed') return gone
      await files.clear()
      for (const name of await files.list(K0S_DATA))
        if (!KEPT.includes(name)) await files.remove(`${K0S_DATA}/${name}`)
      // The reset itself writes it, and one that somebody else wrote has no such line.
      const runtime = (await files.read(RUNTIME_CONFIG))?.toString('utf8').split('\n')
      if (runtime?.includes(OF_K0S)) await files.remove(RUNTIME_CONFIG)
      for (const mark of [...MARKS_OF_DATA, 'hold'] as const) await files.unmark(mark)
      return DONE
    },
    adopt: async authority =>
      await adoptData(of, authority, async () => {
        if (!server) return await settleWorker(deps)
        // Its unit would not start again: a member without that folder has lost its datastore.
        if ((await system.exists(`${K0S_DATA}/etcd/member`)).kind === 'present')
          return await settleFounder(deps)
        return failed(
          'unsupported',
          `no ${K0S_DATA}/etcd/member: its datastore is not the etcd that k0s runs; k0s has no way to move it there`,
        )
      }),
    standDown: async (restoredMs, options) => await standDown(of, restoredMs, options),
    leave: async (operation, options) =>
      await leaveSelf(of, operation, options, async signal => await forgetController(of, nodeName, signal)),
    certificates: async () =>
      await readCertificateEnds(files, [K0S_PKI, `${K0S_PKI}/etcd`, `${K0S_DATA}/kubelet/pki`]),
    cluster: { ...sharedActs(of), ...k0sActs(of, isUp), ...k0sSnapshots(of, isUp) },
  }
}

/** Takes away what k0s keeps of a controller beside its Node. */
async function forgetController(of: Distributed, name: string, signal?: AbortSignal): Promise<Result<void>> {
  for (const path of [
    `/apis/autopilot.k0sproject.io/v1beta2/controlnodes/${name}`,
    `/apis/etcd.k0sproject.io/v1beta1/etcdmembers/${name}`,
  ]) {
    const removed = await of.kubectl.remove(path, undefined, signal)
    if (removed.kind === 'failed' && !isNotFound(removed)) return removed
  }
  return DONE
}

/** What no cluster put there: programs and images that the configuration brings. */
const KEPT = ['bin', 'images']

type K0sActs = Omit<
  ClusterActs,
  keyof ReturnType<typeof sharedActs> | 'snapshot' | 'listSnapshots' | 'restore'
>

function k0sActs(of: Distributed, isUp: () => Promise<boolean>): K0sActs {
  const { deps, kubectl, programs } = of
  const { facts, files } = deps
  return {
    mint: async (request, signal) => await mintK0sToken(of, request, signal),
    listTokens: async signal => await listBootstrapTokens(kubectl, signal),
    deleteToken: async (id, signal) => await deleteBootstrapToken(kubectl, id, signal),
    removeNode: async (name, options) => {
      const leaving = await judgeLeaving(of, name, options.signal)
      if (leaving.kind === 'failed') return leaving
      const { node, member } = leaving.value
      if (member) {
        const [url] = member.peerUrls
        const address = hostIn(url ?? '')
        if (address === undefined)
          return failed('unreadable', `member ${member.name} of the datastore has no address`)
        const args = ['etcd', 'leave', `--peer-address=${address}`]
        const left = await untilSettled(
          options,
          async () =>
            await runProgram(programs, 'k0s', { args, deadlineMs: CALL_MS, signal: options.signal }),
        )
        if (left.kind === 'failed') return left
        const gone = await untilMemberGone(of, member.id, options)
        if (gone.kind === 'failed') return gone
      }
      const forgotten = await forgetController(of, name, options.signal)
      if (forgotten.kind === 'failed') return forgotten
      return await deleteNode(kubectl, node, options.signal)
    },
    kubeconfig: async (server, signal) => {
      const said = await runProgram(programs, 'k0s', {
        args: ['kubeconfig', 'admin'],
        deadlineMs: CALL_MS,
        signal,
      })
      if (said.kind === 'failed') return said
      const text = said.value.stdout
      if (!/^\s*server:/m.test(text))
        return failed('unreadable', 'k0s kubeconfig admin: printed no kubeconfig')
      return done(text.replace(/^(\s*server:\s*)\S+$/m, `$1https://${server}`))
    },
    rotateTokens: async (_rotation, { signal }) => {
      const listed = await listBootstrapTokens(kubectl, signal)
      if (listed.kind === 'failed') return listed
      for (const { id } of listed.value) {
        const deleted = await deleteBootstrapToken(kubectl, id, signal)
        if (deleted.kind === 'failed') return deleted
      }
      return done('no token is out any more; k0s has no permanent one')
    },
    rotateCertificates: async options => {
      const stopped = await stopUnits(deps.system, facts.units, options.signal)
      if (stopped.kind === 'failed') return stopped
      // k0s makes what is missing anew when it starts, by the same authorities.
      for (const folder of [K0S_PKI, `${K0S_PKI}/etcd`]) {
        for (const name of await leafNames(files, folder)) {
          for (const end of ['crt', 'key']) await files.remove(`${folder}/${name}.${end}`)
        }
      }
      const started = await startWithFiles(of, options.signal)
      return started.kind === 'failed' ? started : await untilUp(of, 'this controller', options, isUp)
    },
  }
}
