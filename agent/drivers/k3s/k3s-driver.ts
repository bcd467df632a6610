import { randomBytes } from 'node:crypto'
import { textAt } from '../../../shared/read-value.ts'
import { isServerRole } from '../cluster-facts.ts'
import type { ClusterActs, ClusterDriver, Handover, Minted } from '../driver.ts'
import {
  adoptData,
  begin,
  checkPreconditions,
  type Distributed,
  type DriverDeps,
  finish,
  hostOf,
  nodeActs,
  ownAddress,
  readState,
  runsWorkloads,
  startWithFiles,
  untilUp,
  whatBecameOf,
} from '../driver-base.ts'
import type { EtcdAccess } from '../etcd/etcd-client.ts'
import {
  deleteBootstrapToken,
  deleteTokensOf,
  describeToken,
  listBootstrapTokens,
  SPENT_TOKEN,
} from '../kubernetes/bootstrap-tokens.ts'
import { createKubectl, isNotFound } from '../kubernetes/kubectl.ts'
import { type SeenNode, seeNodes } from '../kubernetes/see-nodes.ts'
import type { WaitOptions } from '../kubernetes/wait-options.ts'
import { leafNames, readCertificate, readCertificateEnds } from '../node/certificates.ts'
import { MARKS_OF_DATA } from '../node/cluster-files.ts'
import { stopUnits, waitFor } from '../node/services.ts'
import { untilPodsAreGone } from '../node/until-pods-are-gone.ts'
import { programVersion } from '../program-version.ts'
import { DONE, done, failed, type Result } from '../result.ts'
import { runProgram } from '../run-program.ts'
import {
  deleteNode,
  judgeLeaving,
  leaveSelf,
  removeMember,
  sharedActs,
  standDown,
  untilMemberGone,
} from '../shared-acts.ts'
import { whyDataElsewhere } from './data-elsewhere.ts'
import { followToken } from './follow-token.ts'
import { AGENT_TOKEN, K3S_DATA, K3S_KUBECONFIG, K3S_SERVER, K3S_TLS, SERVER_TOKEN } from './k3s-places.ts'
import { k3sSnapshots } from './k3s-snapshots.ts'
import { bootstrapId, pinned, readK3sToken, writeK3sToken } from './k3s-token.ts'
import { rotateServerToken } from './rotate-token.ts'
import { tokensForJoiners } from './server-token.ts'
import { passwordOf } from './token-pair.ts'

const ETCD: EtcdAccess = {
  address: '127.0.0.1:2379',
  client: {
    ca: `${K3S_TLS}/etcd/server-ca.crt`,
    cert: `${K3S_TLS}/etcd/client.crt`,
    key: `${K3S_TLS}/etcd/client.key`,
  },
  peer: {
    ca: `${K3S_TLS}/etcd/peer-ca.crt`,
    cert: `${K3S_TLS}/etcd/peer-server-client.crt`,
    key: `${K3S_TLS}/etcd/peer-server-client.key`,
  },
}
const CALL_MS = 60_000
const PODS = { socket: '/run/k3s/containerd/containerd.sock', kubelet: '/var/lib/kubelet' }
const LEAVE_MARK = 'etcd.k3s.cattle.io/remove'
const LEFT_MARK = 'etcd.k3s.cattle.io/removed-node-name'

export function createK3sDriver(deps: DriverDeps): ClusterDriver {
  const { system, facts, files, nodeName } = deps
  const programs = { system, folders: facts.programs }
  const server = isServerRole(facts.role)
  const kubectl = createKubectl({
    programs,
    program: 'k3s',
    before: ['kubectl'],
    kubeconfig: K3S_KUBECONFIG,
    askApi: deps.askApi,
  })
  const of: Distributed = {
    deps,
    programs,
    kubectl,
    etcd: () => deps.connectEtcd(ETCD),
    needs: {
      users: [],
      tcpPorts: [...(server ? [facts.apiPort, 2379, 2380] : []), 10250],
      workloads: runsWorkloads(facts),
    },
    neededPrograms: ['k3s', 'k3s-killall.sh'],
    readUnfit: async () => await whyDataElsewhere(files),
    authorityFiles: [`${K3S_TLS}/server-ca.crt`, `${K3S_DATA}/agent/server-ca.crt`],
    datastore: `${K3S_SERVER}/db/etcd/member`,
    installedVersion: async signal =>
      await programVersion(programs, 'k3s', { args: ['--version'], pattern: /\bv(\d+\.\d+\.\d+)/ }, signal),
  }
  const isMember = async () => {
    if ((await kubectl.getText('/readyz')).kind === 'failed') return false
    const own = await of.etcd().status()
    return own.kind === 'done' && !own.value.learner && own.value.leaderId !== '0'
  }
  const hasCertificate = async () => {
    for (const name of ['client-kubelet.crt', 'kubelet.kubeconfig']) {
      if ((await system.exists(`${K3S_DATA}/agent/${name}`)).kind !== 'present') return false
    }
    return true
  }
  return {
    distribution: 'k3s',
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
      // Made once: a token that the datastore was founded with cannot be another one the next time.
      for (const name of ['token', 'agent-token'] as const) {
        if ((await files.get(name)) === undefined) await files.put(name, randomBytes(24).toString('hex'))
      }
      await files.put('start.env', 'K3S_CLUSTER_INIT=true\n')
      const started = await startWithFiles(of, options.signal)
      if (started.kind === 'failed') return started
      const up = await untilUp(of, 'the first server', options, isMember)
      if (up.kind === 'failed') return up
      await startsBesideOthers(deps)
      return await finish(of, operation)
    },
    join: async (operation, secret, options) => {
      const over = await whatBecameOf(of, operation)
      if (over) return over
      const refused = await begin(of, operation)
      if (refused) return refused
      const token = readK3sToken(secret.token)
      if (secret.distribution !== 'k3s' || !token)
        return failed('token-refused', 'the secret holds no token of k3s that pins an authority')
      if (server === (bootstrapId(token) !== undefined)) {
        return failed('token-refused', `the secret's token is not one for a ${server ? 'server' : 'worker'}`)
      }
      await files.put('token', writeK3sToken(token))
      if (server) await files.put('agent-token', secret.agentToken ?? '')
      await files.put('start.env', `K3S_URL=https://${secret.server}\n`)
      const started = await startWithFiles(of, options.signal)
      if (started.kind === 'failed') return started
      const up = await untilUp(
        of,
        `node ${nodeName} of cluster ${facts.cluster}`,
        options,
        server ? isMember : hasCertificate,
      )
      if (up.kind === 'failed') return up
      // Of the same form: an empty one is refused by the parser at the next start. A server's is permanent, and needed.
      if (!server) await files.put('token', writeK3sToken({ ...token, credentials: SPENT_TOKEN }))
      return await finish(of, operation)
    },
    wipe: async signal => {
      await files.mark('hold')
      const stopped = await stopUnits(system, facts.units, signal)
      if (stopped.kind === 'failed') return stopped
      // Containers outlive the unit.
      const killed = await runProgram(programs, 'k3s-killall.sh', {
        args: [],
        deadlineMs: 2 * CALL_MS,
        signal,
      })
      if (killed.kind === 'failed') return killed
      const gone = await untilPodsAreGone(of, PODS, signal)
      if (gone.kind === 'failed') return gone
      await files.clear()
      for (const folder of [K3S_SERVER, `${K3S_DATA}/agent`]) await files.remove(folder)
      for (const path of [`${K3S_DATA}/data`, '/etc/rancher/node/password', '/etc/rancher/k3s/k3s.yaml'])
        await files.remove(path)
      for (const mark of [...MARKS_OF_DATA, 'hold'] as const) await files.unmark(mark)
      return DONE
    },
    adopt: async authority => await adoptData(of, authority, async () => await giveBackFiles(of)),
    standDown: async (restoredMs, options) => await standDown(of, restoredMs, options),
    leave: async (operation, options) =>
      await leaveSelf(of, operation, options, async signal => await forgetPassword(of, nodeName, signal)),
    certificates: async () =>
      await readCertificateEnds(files, [K3S_TLS, `${K3S_TLS}/etcd`, `${K3S_DATA}/agent`]),
    cluster: {
      ...sharedActs(of),
      nodes: async signal => await nodesAndPasswords(of, signal),
      ...k3sActs(of),
      ...k3sSnapshots(of, isMember, async signal => {
        const forgotten = await forgetPassword(of, nodeName, signal)
        if (forgotten.kind === 'done') await startsBesideOthers(deps)
        return forgotten
      }),
    },
    ...(server
      ? {
          followToken: async (handover: Handover, signal?: AbortSignal) =>
            await followToken(of, handover, signal),
        }
      : { renewByRestart: async (options: WaitOptions) => await renewWorker(of, options) }),
  }
}

/** What the units of an adopted node need at a boot, from what lies on its disk. */
async function giveBackFiles(of: Distributed): Promise<Result<void>> {
  const { deps } = of
  const { files, facts } = deps
  const others = await joinAddress(deps)
  if (isServerRole(facts.role)) {
    if ((await deps.system.exists(`${K3S_SERVER}/db/etcd`)).kind !== 'present') {
      return failed(
        'unsupported',
        `no ${K3S_SERVER}/db/etcd: its datastore is not the embedded etcd; start k3s once with --cluster-init, which moves it there`,
      )
    }
    const token = (await files.read(SERVER_TOKEN))?.toString('utf8').trim()
    if (token === undefined || token === '') return failed('unreadable', `no token in ${SERVER_TOKEN}`)
    // Where no other one was given, agents use the servers'.
    const agents = (await files.read(AGENT_TOKEN))?.toString('utf8').trim()
    await files.put('token', token)
    // The password alone: given another user's token, k3s takes the whole text of it for the password.
    await files.put('agent-token', passwordOf(agents ? agents : token))
    await files.put('start.env', others === undefined ? 'K3S_CLUSTER_INIT=true\n' : `K3S_URL=${others}\n`)
    return DONE
  }
  const authority = await files.read(`${K3S_DATA}/agent/server-ca.crt`)
  if (!authority) return failed('unreadable', `no ${K3S_DATA}/agent/server-ca.crt`)
  if (others === undefined)
    return failed(
      'precondition',
      'no address of a server is known: give one of them an address in fleet.toml',
    )
  await files.put('token', writeK3sToken({ ...pinned('', authority), credentials: SPENT_TOKEN }))
  await files.put('start.env', `K3S_URL=${others}\n`)
  return DONE
}

/**
 * From its next start on a first server is told of another one. Before its founding is over: from then on nobody looks at it again. Alone
 * it stays, and its datastore, which is there, counts more.
 */
async function startsBesideOthers(deps: DriverDeps): Promise<void> {
  const others = await joinAddress(deps)
  if (others !== undefined) await deps.files.put('start.env', `K3S_URL=${others}\n`)
}

/** Where a server would join again: the cluster's own address, or that of another server. */
async function joinAddress(deps: DriverDeps): Promise<string | undefined> {
  const { facts, nodeName } = deps
  const own = await ownAddress(deps)
  const other = [...facts.servers].find(
    ([name, address]) => name !== nodeName && address !== undefined && address !== own,
  )
  const address = facts.endpoint ?? other?.[1]
  return address === undefined ? undefined : `https://${hostOf(address)}:${facts.apiPort}`
}

type K3sActs = Omit<
  ClusterActs,
  keyof ReturnType<typeof sharedActs> | 'snapshot' | 'listSnapshots' | 'restore'
>

function k3sActs(of: Distributed): K3sActs {
  const { deps, kubectl, programs } = of
  const { facts, files } = deps
  return {
    mint: async (request, signal) => {
      const { node, role, operation, lifetimeMs } = request
      const own = await ownAddress(deps)
      // A server joins by this very one, which takes the token that it gives out; behind an endpoint may be another.
      const address = isServerRole(role) ? (own ?? facts.endpoint) : (facts.endpoint ?? own)
      if (address === undefined) return failed('precondition', 'the address of this server is not known yet')
      const secret = { distribution: 'k3s', role, server: `${hostOf(address)}:${facts.apiPort}` } as const
      const authority = await files.read(`${K3S_TLS}/server-ca.crt`)
      if (!authority) return failed('precondition', `no ${K3S_TLS}/server-ca.crt: this machine is no server`)
      const nothing = { files: new Map<string, string>(), initialCluster: undefined }
      if (isServerRole(role)) {
        const tokens = await tokensForJoiners(of, signal)
        if (tokens.kind === 'failed') return tokens
        const { agentToken } = tokens.value
        const token = writeK3sToken(pinned(tokens.value.token, authority))
        return done({ secret: { ...secret, ...nothing, token, agentToken }, tokenId: '' })
      }
      const cleared = await deleteTokensOf(kubectl, operation, signal)
      if (cleared.kind === 'failed') return cleared
      const ttl = `--ttl=${Math.ceil(lifetimeMs / 1000)}s`
      const args = ['token', 'create', ttl, `--description=${describeToken(operation, node)}`]
      const made = await runProgram(programs, 'k3s', { args, deadlineMs: CALL_MS, signal })
      if (made.kind === 'failed') return made
      const token = pinned(made.value.stdout, authority)
      const tokenId = bootstrapId(token)
      if (tokenId === undefined) return failed('unreadable', 'k3s token create: printed no bootstrap token')
      const minted: Minted = {
        secret: { ...secret, ...nothing, token: writeK3sToken(token), agentToken: undefined },
        tokenId,
      }
      return done(minted)
    },
    listTokens: async signal => await listBootstrapTokens(kubectl, signal),
    // A server's token is permanent; there is nothing that could be deleted.
    deleteToken: async (id, signal) => (id === '' ? DONE : await deleteBootstrapToken(kubectl, id, signal)),
    removeNode: async (name, options) => {
      const leaving = await judgeLeaving(of, name, options.signal)
      if (leaving.kind === 'failed') return leaving
      const { node, member } = leaving.value
      if (member) {
        const left = node ? await askToLeave(of, name, options.deadlineMs / 2, options.signal) : false
        // Nobody answered for it: the machine is gone, or so is its Node object.
        if (!left) {
          const removed = await removeMember(of, member.id, options)
          if (removed.kind === 'failed') return removed
        }
        const gone = await untilMemberGone(of, member.id, options)
        if (gone.kind === 'failed') return gone
      }
      const forgotten = await forgetPassword(of, name, options.signal)
      if (forgotten.kind === 'failed') return forgotten
      return await deleteNode(kubectl, node, options.signal)
    },
    kubeconfig: async server => {
      const text = (await files.read(K3S_KUBECONFIG))?.toString('utf8')
      if (text === undefined)
        return failed('precondition', `no ${K3S_KUBECONFIG}: this machine is no server that runs`)
      return done(text.replace(/^(\s*server:\s*)\S+$/m, `$1https://${server}`))
    },
    rotateTokens: async (rotation, options) =>
      await rotateServerToken({ of, putToken: deps.putToken, ...rotation }, options),
    rotateCertificates: async options => {
      const held = await stopUnits(deps.system, facts.units, options.signal)
      if (held.kind === 'failed') return held
      const rotated = await runProgram(programs, 'k3s', {
        args: ['certificate', 'rotate'],
        deadlineMs: CALL_MS,
        signal: options.signal,
      })
      const started = await startWithFiles(of, options.signal)
      if (rotated.kind === 'failed') return rotated
      if (started.kind === 'failed') return started
      const up = await untilUp(
        of,
        'this server',
        options,
        async () => (await kubectl.getText('/readyz')).kind === 'done',
      )
      if (up.kind === 'failed') return up
      return (await leafNames(files, K3S_TLS)).length > 0
        ? DONE
        : failed('command', `${K3S_TLS}: no certificates after the rotation`)
    },
  }
}

const FETCHED = ['client-kubelet.crt', 'serving-kubelet.crt'] as const

/**
 * A worker's k3s fetches its certificates anew at every start, and shows the one it has. So nothing is taken away before: `k3s
 * certificate rotate` would, and then a worker whose token is spent has nothing left that a server takes.
 */
async function renewWorker(of: Distributed, options: WaitOptions): Promise<Result<void>> {
  const { files, system, facts, clock } = of.deps
  const [own] = FETCHED
  const shown = await files.read(`${K3S_DATA}/agent/${own}`)
  const certificate = shown && readCertificate(shown)
  if (!certificate)
    return failed('unreadable', `${K3S_DATA}/agent/${own}: no certificate to show to a server`)
  if (Date.parse(certificate.validTo) <= clock.now().getTime()) {
    return failed(
      'precondition',
      `the certificate that this node would show ended at ${new Date(certificate.validTo).toISOString()}, and its token is spent: let it leave, then join again`,
    )
  }
  const read = async () =>
    await Promise.all(FETCHED.map(async name => (await files.read(`${K3S_DATA}/agent/${name}`))?.toString()))
  const before = await read()
  const stopped = await stopUnits(system, facts.units, options.signal)
  if (stopped.kind === 'failed') return stopped
  const started = await startWithFiles(of, options.signal)
  if (started.kind === 'failed') return started
  return await untilUp(of, 'a server’s new certificates', options, async () =>
    (await read()).every((text, index) => text !== undefined && text !== before[index]),
  )
}

const SECRETS = '/api/v1/namespaces/kube-system/secrets'
const PASSWORD = '.node-password.k3s'
/** Releases of k3s since November 2025 give passwords a type of their own, and older ones none. */
const TYPES_OF_PASSWORDS = ['k3s.cattle.io/node-password', 'Opaque'] as const
const MAX_SECRETS = 20_000

/** Without it a machine that was installed anew may take the name. */
async function forgetPassword(of: Distributed, node: string, signal?: AbortSignal): Promise<Result<void>> {
  const forgotten = await of.kubectl.remove(`${SECRETS}/${node}${PASSWORD}`, undefined, signal)
  return forgotten.kind === 'failed' && !isNotFound(forgotten) ? forgotten : DONE
}

/** Node objects, and names that only a password is left of. */
async function nodesAndPasswords(
  of: Distributed,
  signal?: AbortSignal,
): Promise<Result<readonly SeenNode[]>> {
  const nodes = await seeNodes(of.kubectl, signal)
  if (nodes.kind === 'failed') return nodes
  const known = new Set(nodes.value.map(({ name }) => name))
  const left = new Set<string>()
  for (const type of TYPES_OF_PASSWORDS) {
    const selector = `fieldSelector=${encodeURIComponent(`type=${type}`)}`
    const secrets = await of.kubectl.list(`${SECRETS}?${selector}`, MAX_SECRETS, signal)
    if (secrets.kind === 'failed') return secrets
    for (const secret of secrets.value) {
      const name = textAt(secret, 'metadata', 'name') ?? ''
      const node = name.endsWith(PASSWORD) ? name.slice(0, -PASSWORD.length) : ''
      if (node !== '' && !known.has(node)) left.add(node)
    }
  }
  const only = { uid: '', saysReady: false, renewedMs: undefined, kubeletVersion: '' }
  return done([...nodes.value, ...[...left].map(name => ({ name, ...only }))])
}

/** Asks k3s to take a member out by its Node's annotation; false: it did not within its time. */
async function askToLeave(
  of: Distributed,
  name: string,
  deadlineMs: number,
  signal?: AbortSignal,
): Promise<boolean> {
  const asked = await of.kubectl.patchNode(
    name,
    { metadata: { annotations: { [LEAVE_MARK]: 'true' } } },
    signal,
  )
  if (asked.kind === 'failed') return false
  const left = await waitFor(deadlineMs, signal, async () => {
    const node = await of.kubectl.get(`/api/v1/nodes/${name}`, signal)
    const mark = node.kind === 'done' ? textAt(node.value, 'metadata', 'annotations', LEFT_MARK) : undefined
    return mark === undefined ? undefined : true
  })
  return left === true
}
