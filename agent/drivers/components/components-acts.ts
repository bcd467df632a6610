import { isServerRole, isWorkerRole } from '../cluster-facts.ts'
import type { ClusterActs } from '../driver.ts'
import {
  type Distributed,
  hostOf,
  ownAddress,
  startWithFiles,
  stopKubernetes,
  untilUp,
} from '../driver-base.ts'
import { whyNotAdd } from '../etcd/judge-change.ts'
import {
  createKubeletToken,
  deleteBootstrapToken,
  deleteTokensOf,
  describeToken,
  listBootstrapTokens,
} from '../kubernetes/bootstrap-tokens.ts'
import { leafNames } from '../node/certificates.ts'
import { DONE, done, failed, type Result } from '../result.ts'
import {
  deleteNode,
  judgeLeaving,
  removeMember,
  type sharedActs,
  untilMemberGone,
  untilSettled,
} from '../shared-acts.ts'
import { initialCluster, peerUrl, readTokenId, writeTokenId } from './initial-cluster.ts'
import { AUTHORITY_FILES, KUBERNETES_DIR, PKI } from './pki.ts'

type ComponentsActs = Omit<
  ClusterActs,
  keyof ReturnType<typeof sharedActs> | 'snapshot' | 'listSnapshots' | 'restore'
>

export function componentsActs(
  of: Distributed,
  makeServer: (signal?: AbortSignal) => Promise<Result<string>>,
): ComponentsActs {
  const { deps, kubectl } = of
  const { facts, files } = deps
  return {
    mint: async (request, signal) => {
      const { node, role, operation, lifetimeMs } = request
      const address = facts.endpoint ?? (await ownAddress(deps))
      if (address === undefined) return failed('precondition', 'the address of this server is not known yet')
      const given = await readAuthorities(of, isServerRole(role) ? AUTHORITY_FILES : ['ca.crt'])
      if (given.kind === 'failed') return given
      const cleared = await deleteTokensOf(kubectl, operation, signal)
      if (cleared.kind === 'failed') return cleared
      // nixpkgs' servers have a kubelet whatever their role is; what is not needed is deleted with the rest.
      const needsToken = isWorkerRole(role) || facts.distribution === 'kubernetes'
      const expires = new Date(deps.clock.now().getTime() + lifetimeMs)
      const token = needsToken
        ? await createKubeletToken(kubectl, describeToken(operation, node), expires, signal)
        : done(undefined)
      if (token.kind === 'failed') return token
      const member = isServerRole(role) ? await addMember(of, node, request.address, signal) : done(undefined)
      if (member.kind === 'failed') {
        if (token.value) await deleteBootstrapToken(kubectl, token.value.id, signal)
        return member
      }
      return done({
        secret: {
          distribution: facts.distribution,
          role,
          server: `${hostOf(address)}:${facts.apiPort}`,
          token: token.value?.text ?? '',
          agentToken: undefined,
          files: given.value,
          initialCluster: member.value?.initialCluster,
        },
        tokenId: writeTokenId(token.value?.id, member.value?.id),
      })
    },
    listTokens: async signal => {
      const tokens = await listBootstrapTokens(kubectl, signal)
      if (tokens.kind === 'failed') return tokens
      const members = await of.etcd().members(signal)
      if (members.kind === 'failed') return members
      // A member that was added and has no vote is an open invitation, too.
      const added = members.value.flatMap(({ id, learner, peerUrls }) =>
        learner
          ? [
              {
                id: `member-${id}`,
                expiresMs: undefined,
                description: `datastore member ${peerUrls.join(' ')}, without a vote yet`,
              },
            ]
          : [],
      )
      return done([...tokens.value, ...added])
    },
    deleteToken: async (id, signal) => {
      const { token, member } = readTokenId(id)
      if (token !== undefined) {
        const deleted = await deleteBootstrapToken(kubectl, token, signal)
        if (deleted.kind === 'failed') return deleted
      }
      if (member === undefined) return DONE
      const members = await of.etcd().members(signal)
      if (members.kind === 'failed') return members
      // Once it votes it is a server of the cluster and no invitation.
      if (!members.value.some(each => each.id === member && each.learner)) return DONE
      const removed = await of.etcd().remove(member, signal)
      if (removed.kind === 'failed') return removed
      const after = await of.etcd().members(signal)
      if (after.kind === 'failed') return after
      return after.value.some(each => each.id === member)
        ? failed('command', `member ${member} is still listed after it was removed`)
        : DONE
    },
    removeNode: async (name, options) => {
      const leaving = await judgeLeaving(of, name, options.signal)
      if (leaving.kind === 'failed') return leaving
      const { node, member } = leaving.value
      if (member) {
        const removed = await removeMember(of, member.id, options)
        if (removed.kind === 'failed') return removed
        const gone = await untilMemberGone(of, member.id, options)
        if (gone.kind === 'failed') return gone
      }
      return await deleteNode(kubectl, node, options.signal)
    },
    kubeconfig: async server => {
      const text = (await files.read(`${KUBERNETES_DIR}/admin.conf`))?.toString('utf8')
      if (text === undefined)
        return failed('precondition', `no ${KUBERNETES_DIR}/admin.conf: this machine is no server`)
      return done(text.replace(/^(\s*server:\s*)\S+$/m, `$1https://${server}`))
    },
    rotateTokens: async (_rotation, { signal }) => {
      const listed = await listBootstrapTokens(kubectl, signal)
      if (listed.kind === 'failed') return listed
      for (const { id } of listed.value) {
        const deleted = await deleteBootstrapToken(kubectl, id, signal)
        if (deleted.kind === 'failed') return deleted
      }
      return done('no token is out any more; there is no permanent one')
    },
    rotateCertificates: async options => {
      const stopped = await stopKubernetes(of, options.signal)
      if (stopped.kind === 'failed') return stopped
      for (const folder of [PKI, `${PKI}/etcd`]) {
        for (const name of await leafNames(files, folder)) {
          for (const end of ['crt', 'key']) await files.remove(`${folder}/${name}.${end}`)
        }
      }
      for (const name of ['admin', 'controller-manager', 'scheduler'])
        await files.remove(`${KUBERNETES_DIR}/${name}.conf`)
      const made = await makeServer(options.signal)
      if (made.kind === 'failed') return made
      const started = await startWithFiles(of, options.signal)
      if (started.kind === 'failed') return started
      return await untilUp(
        of,
        'this server',
        options,
        async () => (await kubectl.getText('/readyz')).kind === 'done',
      )
    },
  }
}

/** How long a change of members is refused after one of them came back: five seconds, and some for being slow. */
const SETTLING_MS = 20_000

async function readAuthorities(
  { deps }: Distributed,
  names: readonly string[],
): Promise<Result<ReadonlyMap<string, string>>> {
  const found = new Map<string, string>()
  for (const name of names) {
    const text = (await deps.files.read(`${PKI}/${name}`))?.toString('utf8')
    if (text === undefined)
      return failed('precondition', `no ${PKI}/${name}: this machine is no server of the cluster`)
    found.set(name, text)
  }
  return done(found)
}

/** Adds a member for a server that joins, or finds the one that was added for it before. */
async function addMember(
  of: Distributed,
  node: string,
  address: string,
  signal: AbortSignal | undefined,
): Promise<Result<{ readonly id: string; readonly initialCluster: string }>> {
  const url = peerUrl(address)
  const members = await of.etcd().seenMembers(signal)
  if (members.kind === 'failed') return members
  const known = members.value.find(({ peerUrls }) => peerUrls.includes(url))
  if (known && !known.learner)
    return failed('quorum', `the datastore has a voting member at ${url}: take ${node} out first`)
  const why = known ? undefined : whyNotAdd(members.value)
  if (why !== undefined) return failed('quorum', `no server can join: ${why}`)
  const added = known
    ? members
    : await untilSettled(
        { deadlineMs: SETTLING_MS, signal },
        async () => await of.etcd().addLearner(url, signal),
      )
  if (added.kind === 'failed') return added
  const own = added.value.find(({ peerUrls }) => peerUrls.includes(url))
  if (!own) return failed('unreadable', `the datastore added a member at ${url} and does not list it`)
  return done({ id: own.id, initialCluster: initialCluster(added.value, { node, peerUrl: url }) })
}
