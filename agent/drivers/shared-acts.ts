import { pause } from '../../shared/lifecycle.ts'
import { isServerRole } from './cluster-facts.ts'
import type { Distributed, SharedActs } from './driver-base.ts'
import { hostOf, ownAddress, runningVersion, stopKubernetes } from './driver-base.ts'
import { whyNotRemove, whyNotStop } from './etcd/judge-change.ts'
import type { SeenMember } from './etcd/member.ts'
import { applyManifests } from './kubernetes/apply-manifests.ts'
import { judgeJoiner, MAX_NODES, memberOf } from './kubernetes/check-joiner.ts'
import { cordonNode, uncordonNode } from './kubernetes/cordon.ts'
import { drainNode } from './kubernetes/drain.ts'
import { isNotFound, type Kubectl } from './kubernetes/kubectl.ts'
import { isVersion } from './kubernetes/kubelet-version.ts'
import { type NodeReading, nodePath, readNode } from './kubernetes/node-reading.ts'
import { readEvidence } from './kubernetes/read-evidence.ts'
import { runGateJob } from './kubernetes/run-gate-job.ts'
import { seeNodes } from './kubernetes/see-nodes.ts'
import type { WaitOptions } from './kubernetes/wait-options.ts'
import { waitFor } from './node/services.ts'
import { DONE, done, failed, type Result } from './result.ts'

/** What is done to the cluster through the API server and the datastore alone, the same for every distribution. */
export function sharedActs(of: Distributed): SharedActs {
  const { kubectl } = of
  return {
    checkJoiner: async (joiner, signal) => {
      const listed = await kubectl.list('/api/v1/nodes', MAX_NODES, signal)
      if (listed.kind === 'failed') return listed
      const nodes = listed.value.flatMap(object => readNode(object) ?? [])
      if (nodes.length < listed.value.length)
        return failed('unreadable', 'a Node object of the cluster cannot be read')
      const members = await of.etcd().seenMembers(signal)
      return members.kind === 'failed'
        ? members
        : done(judgeJoiner(joiner, nodes, members.value, of.deps.facts.distribution))
    },
    isReady: async signal => (await kubectl.getText('/readyz', signal)).kind === 'done',
    nodes: async signal => await seeNodes(kubectl, signal),
    readEvidence: async (node, signal) => await readEvidence(kubectl, node, signal),
    proveServer: async (version, options) => {
      let why = 'it was not asked'
      const proof = await waitFor(
        options.deadlineMs,
        options.signal,
        async () => {
          const seen = await lookAtServer(of, version, options.signal)
          if (typeof seen !== 'string') return seen
          why = seen
          return undefined
        },
        options.everyMs ?? 2_000,
      )
      return proof
        ? done({ version, members: proof })
        : failed('not-ready', `this server is not well within ${options.deadlineMs / 1000} s: ${why}`)
    },
    cordon: async (node, operation, takesOver, signal) =>
      await cordonNode(kubectl, node, operation, takesOver, signal),
    drain: async (node, policy, options) => await drainNode(kubectl, node, policy, options),
    uncordon: async (node, operation, signal) => await uncordonNode(kubectl, node, operation, signal),
    members: async signal => await seeMembers(of, signal),
    whyNotStop: async signal => {
      const members = await of.etcd().seenMembers(signal)
      if (members.kind === 'failed') return members
      const own = await of.etcd().status(signal)
      return own.kind === 'failed' ? own : done(whyNotStop(members.value, own.value.memberId))
    },
    applyManifests: async (set, signal) => await applyManifests(kubectl, set, signal),
    runGateJob: async (gate, job, signal) => await runGateJob(kubectl, gate, job, { signal }),
  }
}

/** The members, and which of them leads, where this server's own member says so. */
async function seeMembers(of: Distributed, signal?: AbortSignal): Promise<Result<readonly SeenMember[]>> {
  const client = of.etcd()
  const [listed, own] = await Promise.all([client.seenMembers(signal), client.status(signal)])
  if (listed.kind === 'failed' || own.kind === 'failed') return listed
  return done(listed.value.map(member => ({ ...member, leads: member.id === own.value.leaderId })))
}

/** The members, when this server is well; else why it is not. */
async function lookAtServer(
  { kubectl, etcd }: Distributed,
  version: string,
  signal: AbortSignal | undefined,
): Promise<readonly SeenMember[] | string> {
  const ready = await kubectl.getText('/readyz', signal)
  if (ready.kind === 'failed') return `its API server is not ready: ${ready.reason}`
  const running = await runningVersion(kubectl, signal)
  if (running === undefined || !isVersion(running, version)) {
    return `its API server is ${running ?? 'of an unknown version'}, wanted ${version}`
  }
  const client = etcd()
  const own = await client.status(signal)
  if (own.kind === 'failed') return own.reason
  if (own.value.errors.length > 0) return `its datastore says ${own.value.errors.join(', ').slice(0, 200)}`
  if (own.value.leaderId === '0') return 'its datastore has no leader'
  const members = await client.seenMembers(signal)
  if (members.kind === 'failed') return members.reason
  const member = members.value.find(({ id }) => id === own.value.memberId)
  if (!member) return 'the datastore does not list it as a member'
  return member.learner ? 'its datastore member has no vote yet' : members.value
}

/** Of a node that is to go: its Node object, if there is one, and its member of the datastore, if it has one. */
export interface Leaving {
  readonly node: NodeReading | undefined
  readonly member: SeenMember | undefined
  readonly members: readonly SeenMember[]
}

/** Reads what there is of a node that is to go, and refuses where the datastore would lose its majority. */
export async function judgeLeaving(
  of: Distributed,
  name: string,
  signal?: AbortSignal,
): Promise<Result<Leaving>> {
  const { deps, kubectl } = of
  if (name === deps.nodeName) {
    return failed('precondition', `node ${name} is this very server: another server takes it out`)
  }
  // The datastore first: without a majority nothing else answers either.
  const members = await of.etcd().seenMembers(signal)
  if (members.kind === 'failed') return members
  const object = await kubectl.get(nodePath(name), signal)
  if (object.kind === 'failed' && !isNotFound(object)) return object
  const node = object.kind === 'done' ? readNode(object.value) : undefined
  if (object.kind === 'done' && !node)
    return failed('unreadable', `node ${name}: the API server's answer is no Node`)
  const configured = deps.facts.servers.get(name)
  const addresses = [...(node?.addresses ?? []), ...(configured === undefined ? [] : [configured])]
  const member = memberOf(members.value, name, addresses, deps.facts.distribution)
  const why = member && whyNotRemove(members.value, member.id)
  if (why !== undefined) return failed('quorum', `node ${name} cannot leave: ${why}`)
  return done({ node, member, members: members.value })
}

/**
 * Takes a member out of the datastore; one that is out already is out. Every change of members is refused for some seconds after
 * one of them came back, so that what is refused for that is tried again within its time.
 */
export async function removeMember(of: Distributed, id: string, options: WaitOptions): Promise<Result<void>> {
  return await untilSettled(options, async () => {
    const removed = await of.etcd().remove(id, options.signal)
    return removed.kind === 'failed' && removed.class === 'not-found' ? DONE : removed
  })
}

/** Tries again as long as a change of members is refused because one has just come back. */
export async function untilSettled<T>(
  options: WaitOptions,
  change: () => Promise<Result<T>>,
): Promise<Result<T>> {
  const until = performance.now() + options.deadlineMs
  for (;;) {
    const end = await change()
    const settles = end.kind === 'failed' && /unhealthy cluster/i.test(end.reason)
    if (!settles || performance.now() >= until) return end
    if (!(await pause(options.everyMs ?? 2_000, options.signal))) return end
  }
}

/** Waits until the datastore lists a member no more. Where the leader left, another one is elected meanwhile. */
export async function untilMemberGone(
  of: Distributed,
  id: string,
  options: WaitOptions,
): Promise<Result<void>> {
  let why = ''
  const gone = await waitFor(options.deadlineMs, options.signal, async () => {
    const members = await of.etcd().members(options.signal)
    if (members.kind === 'failed') why = members.reason
    else if (members.value.some(member => member.id === id)) why = `member ${id} is still listed`
    else return true
    return undefined
  })
  return gone
    ? DONE
    : failed(
        'timed-out',
        `the datastore has not let the member go within ${options.deadlineMs / 1000} s: ${why}`,
      )
}

/** Deletes the very Node object that was read. */
export async function deleteNode(
  kubectl: Kubectl,
  node: NodeReading | undefined,
  signal?: AbortSignal,
): Promise<Result<void>> {
  if (!node) return DONE
  const removed = await kubectl.remove(nodePath(node.name), node.uid, signal)
  return removed.kind === 'failed' && !isNotFound(removed) ? removed : DONE
}

/**
 * Takes this very server out of its cluster: its Node object by its own API server, then its own member, which ends its
 * datastore. Refused where the others would be without a majority. A worker has no right to do anything of the kind: what is
 * left of it is cleared by a server. The caller wipes the machine afterwards.
 */
export async function leaveSelf(
  of: Distributed,
  operation: string,
  options: WaitOptions,
  /** Takes away what the distribution keeps beside the Node object. */
  forget: (signal?: AbortSignal) => Promise<Result<void>> = async () => DONE,
): Promise<Result<void>> {
  const { files, facts, nodeName } = of.deps
  if (!isServerRole(facts.role) || (await files.readMark('left')) === operation) return DONE
  const members = await of.etcd().seenMembers(options.signal)
  const own = await of.etcd().status(options.signal)
  if (members.kind === 'failed' || own.kind === 'failed') {
    const unanswered = members.kind === 'failed' ? members : own.kind === 'failed' ? own : DONE
    // A member that was taken out has no datastore any more; who was killed right then is out all the same.
    if (!(await isOut(of, await configuredPeers(of), options))) return unanswered
    await files.mark('left', operation)
    return DONE
  }
  const why = whyNotRemove(members.value, own.value.memberId)
  if (why !== undefined) return failed('quorum', `node ${nodeName} cannot leave: ${why}`)
  const object = await of.kubectl.get(nodePath(nodeName), options.signal)
  if (object.kind === 'failed' && !isNotFound(object)) return object
  const node = object.kind === 'done' ? readNode(object.value) : undefined
  const forgotten = await forget(options.signal)
  if (forgotten.kind === 'failed') return forgotten
  const deleted = await deleteNode(of.kubectl, node, options.signal)
  if (deleted.kind === 'failed') return deleted
  const removed = await removeMember(of, own.value.memberId, options)
  if (removed.kind === 'failed') {
    const ownUrls = members.value.find(({ id }) => id === own.value.memberId)?.peerUrls ?? []
    const others = members.value.flatMap(({ id, peerUrls }) => (id === own.value.memberId ? [] : peerUrls))
    // It ends while it answers, so that the answer may not come.
    if (!(await isOut(of, { own: ownUrls, others }, options))) return removed
  }
  await files.mark('left', operation)
  return DONE
}

/**
 * Stops this server and keeps it from starting until it is wiped. Its word against that of others: what it has must be older than the
 * restore, and another server of its own authority must list members without it. So nobody who only says so can stop a member.
 */
export async function standDown(
  of: Distributed,
  restoredMs: number,
  options: WaitOptions,
): Promise<Result<void>> {
  const { files, facts } = of.deps
  if (!isServerRole(facts.role)) return failed('precondition', 'this machine is no server')
  if ((await files.readMark('stood-down')) === undefined) {
    const memberMs = await files.markedMs('member')
    if (memberMs === undefined) return failed('precondition', 'this machine has not been a server yet')
    if (memberMs >= restoredMs)
      return failed(
        'precondition',
        `this server became one at ${new Date(memberMs).toISOString()}, after the restore was ordered`,
      )
    if (!(await isOut(of, await configuredPeers(of), options)))
      return failed('quorum', 'no other server says that this one is no member of the datastore any more')
    await files.mark('stood-down')
  }
  return await stopKubernetes(of, options.signal)
}

interface Peers {
  readonly own: readonly string[]
  readonly others: readonly string[]
}

/** Where the members are by the configuration. */
async function configuredPeers({ deps }: Distributed): Promise<Peers> {
  const address = await ownAddress(deps)
  const others = [...deps.facts.servers].flatMap(([name, at]) =>
    name === deps.nodeName || at === undefined || at === address ? [] : [`https://${hostOf(at)}:2380`],
  )
  return { own: address === undefined ? [] : [`https://${hostOf(address)}:2380`], others }
}

/** What others have to say to it may take a moment to reach them. */
const HEARSAY_MS = 15_000

/** Whether another member says that this server is none any more. */
async function isOut(of: Distributed, { own, others }: Peers, options: WaitOptions): Promise<boolean> {
  if (own.length === 0 || others.length === 0) return false
  const out = await waitFor(
    Math.min(options.deadlineMs, HEARSAY_MS),
    options.signal,
    async () => {
      for (const url of others) {
        const listed = await of.etcd().peersAt(url, options.signal)
        if (listed.kind === 'done' && !listed.value.some(each => own.includes(each))) return true
      }
      return undefined
    },
    options.everyMs ?? 2_000,
  )
  return out === true
}
