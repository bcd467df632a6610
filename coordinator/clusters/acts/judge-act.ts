import { toBinary } from '@bufbuild/protobuf'
import { type Envelope, EnvelopeSchema } from '../../../shared/gen/muster/v1/envelope_pb.ts'
import { KEEP_SNAPSHOTS, readOrder } from '../../../shared/operator-order/operator-order.ts'
import { verifyOperatorOrder } from '../../../shared/operator-order/verify-operator-order.ts'
import { durationFromMs } from '../../../shared/time.ts'
import type { KnownTrust } from '../../../shared/trust/trust-set.ts'
import type { ClusterOrderInit } from '../cluster-messages.ts'
import { authorityOf, isServer, type Leave } from '../cluster-record.ts'
import {
  belongs,
  type ClusterSnapshot,
  freshObservation,
  hasLostDatastore,
  type LiveServer,
  liveServers,
  newestView,
} from '../cluster-snapshot.ts'
import { lostDatastore } from '../decide-joins.ts'
import { decideLeaves } from '../decide-leaves.ts'
import { askToLeave, mayReturn } from '../operator-changes.ts'
import { readQuorum, whyNotStop } from '../quorum.ts'
import { describeReason, type Reason } from '../reasons.ts'
import { serverChangeOf } from '../server-change.ts'
import { type ClusterAct, type Cordon, isRebuilding, isRetried } from './cluster-act.ts'
import { whyNotRestore } from './judge-restore.ts'
import { type ActAsk, signedAct } from './read-ask.ts'

/** All that the judgement of an act rests on. */
export interface ActContext {
  readonly snapshot: ClusterSnapshot
  /** Acts of the cluster that are under way. */
  readonly open: readonly ClusterAct[]
  readonly trust: KnownTrust | undefined
  /** The newest revision, whose manifests are meant. */
  readonly revision: { readonly number: number; readonly digest: string }
  /** The cordon of ours on the node of the host; missing: none. */
  readonly cordon?: Cordon | undefined
  /** The act is a step of a rollout on its way to something else. */
  readonly onTheWay?: boolean
  /** host:port at which the cluster's API answers by the fleet file; empty: not said. */
  readonly endpoint: string
}

/** What is written down of an act that may be. */
export interface Grant {
  readonly host: string
  /** The machine it is about; empty: none. */
  readonly machine: string
  /** Who does it; undefined: nobody, or the planner chooses later. */
  readonly executor: { readonly host: string; readonly machine: string } | undefined
  readonly action: ClusterOrderInit['action'] | undefined
  readonly expiresMs: number | undefined
  /** What it changes in the cluster's record. */
  readonly change:
    | {
        readonly kind: 'leave'
        readonly leave: Pick<Leave, 'host' | 'machine' | 'server' | 'dead' | 'signed'>
      }
    | { readonly kind: 'return' }
    /** It is the founding of a cluster that nobody knows here. */
    | { readonly kind: 'found' }
    | undefined
  /** Its node is to count as cordoned by us from now on. */
  readonly cordons: boolean
}

export type ActVerdict =
  | { readonly kind: 'grant'; readonly grant: Grant }
  | { readonly kind: 'refused'; readonly problems: readonly string[] }

const HOUR_MS = 3_600_000
/** Whoever asked has gone by then, and the key that was sealed to is of a session that nobody remembers. */
const KUBECONFIG_MS = 600_000
/** A leave that can be only later may be asked for now: it waits for its turn. */
const LEAVE_WAITS: ReadonlySet<Reason['gate']> = new Set([
  'server-change',
  'recount',
  'learner',
  'backing-off',
])

/** Whether an act may be now, who does it and what it is told; or every reason why not. */
export function judgeAct(ask: ActAsk, context: ActContext, now: number): ActVerdict {
  const problems: string[] = []
  const subject = subjectOf(ask, context, now)
  problems.push(...problemsOfCluster(ask, context))
  if (subject.problem !== undefined) problems.push(subject.problem)
  const doer = executorOf(ask, context, subject, now)
  problems.push(...doer.problems)
  problems.push(...problemsOfAct(ask, context, subject, now))
  const signed = problems.length === 0 ? judgeSignature(ask, context, subject, doer.executor, now) : undefined
  if (typeof signed === 'string') problems.push(signed)
  if (problems.length > 0 || typeof signed === 'string') {
    return { kind: 'refused', problems: [...new Set(problems)] }
  }
  return { kind: 'grant', grant: grantOf(ask, context, subject, doer.executor, signed, now) }
}

interface Subject {
  /** The machine of the host; undefined: none is bound, or none is meant. */
  readonly machine: string | undefined
  readonly server: boolean
  readonly problem: string | undefined
}

/** The host that the act is about. One that the revision does not name any more can still be drained or taken out. */
function subjectOf({ host, act, dead, signed }: ActAsk, { snapshot }: ActContext, now: number): Subject {
  if (host === '') return { machine: undefined, server: false, problem: undefined }
  const { record, hosts } = snapshot
  const wanted = hosts.find(each => each.host === host)
  if (wanted) {
    // Of a host whose machine was sent away the operator's order knows which one it was.
    const machine = wanted.machine ?? (dead ? machineOf(signed) : undefined)
    return { machine, server: isServer(wanted.role), problem: undefined }
  }
  const reading = newestView(snapshot, now)
  const view = reading.kind === 'read' ? reading.view : undefined
  const member = view?.members.some(({ name }) => name === host) ?? false
  const known = member || (view?.nodes.some(({ name }) => name === host) ?? false)
  const isOf = act === 'drain' || act === 'cordon' || act === 'uncordon' || (act === 'leave' && dead)
  if ((known && isOf) || (act === 'return' && record.left.has(host))) {
    return { machine: record.left.get(host) ?? machineOf(signed), server: member, problem: undefined }
  }
  return {
    machine: undefined,
    server: false,
    problem: `${host} is no host of cluster ${record.name} by the newest revision`,
  }
}

/** The machine that an operator's order is about; undefined: it names none. */
function machineOf(signed: Envelope | undefined): string | undefined {
  const read = signed && readOrder(signed.payload)
  return read?.ok && read.order.machine !== '' ? read.order.machine : undefined
}

/** What may be before a cluster is known: what there was is gone, is looked for, or is brought back. */
const WITHOUT_CLUSTER: ReadonlySet<ActAsk['act']> = new Set(['wipe', 'snapshots', 'restore'])

/** What stands in the way whatever the act is about. */
function problemsOfCluster({ act, host, dead }: ActAsk, { snapshot, open }: ActContext): string[] {
  const { record, machines } = snapshot
  const problems: string[] = []
  if (authorityOf(record) === undefined && !WITHOUT_CLUSTER.has(act)) {
    const running = [...machines.values()].some(({ observation }) => observation?.data.kind === 'cluster')
    problems.push(
      running
        ? `cluster ${record.name} runs and was not adopted: \`muster cluster adopt ${record.name}\``
        : `cluster ${record.name} was not founded yet`,
    )
  }
  for (const other of open) {
    if (isRetried(other)) continue
    if (isRebuilding(other))
      problems.push(`${inWords(other)} is under way: nothing else is begun before it ends`)
    else if (host !== '' && other.host === host && clashes(act, other.act)) {
      const isSame = act === 'leave' && other.act === 'leave'
      // Whoever was to leave by itself may be gone by now: the new order takes the place of the old one.
      const isDead = record.leaves.some(leave => leave.host === host && leave.dead)
      if (isSame && dead && !isDead) continue
      problems.push(`${inWords(other)} is under way${isSame ? '; asked for as dead it takes its place' : ''}`)
    }
  }
  return problems
}

/** Two acts on one host that cannot be side by side. */
function clashes(act: string, other: string): boolean {
  const reads = ['snapshot', 'snapshots', 'certificates', 'kubeconfig', 'manifests']
  return !reads.includes(act) && !reads.includes(other)
}

function inWords({ id, act, host }: ClusterAct): string {
  return `${act}${host === '' ? '' : ` of ${host}`} (act ${id})`
}

interface Doer {
  readonly executor: { readonly host: string; readonly machine: string } | undefined
  readonly problems: readonly string[]
}

function executorOf(ask: ActAsk, context: ActContext, subject: Subject, now: number): Doer {
  const { snapshot } = context
  const { act, host } = ask
  switch (act) {
    case 'leave':
    case 'return':
      return { executor: undefined, problems: [] }
    case 'drain':
    case 'cordon':
    case 'uncordon':
      return liveServer(snapshot, host, false, 'drain', now)
    case 'manifests':
      return liveServer(snapshot, host, false, 'join', now)
    case 'snapshot':
    case 'kubeconfig':
      return liveServer(snapshot, host, host !== '', act, now)
    case 'snapshots':
      // A folder is read, whatever runs there: what is looked for is wanted most where nothing does.
      return host === ''
        ? liveServer(snapshot, '', false, undefined, now)
        : theMachine(snapshot, host, subject, now)
    case 'rotate':
      if (ask.parameter === 'tokens') return liveServer(snapshot, host, host !== '', 'rotate', now)
      return theMachine(snapshot, host, subject, now)
    case 'certificates':
      return host === ''
        ? liveServer(snapshot, '', false, undefined, now)
        : theMachine(snapshot, host, subject, now)
    case 'restore':
    case 'wipe':
      return theMachine(snapshot, host, subject, now)
  }
}

/**
 * A server that answers: the one that is named, or any, but the named one last: it may be about to stop. Of several one that takes
 * such orders; where none does, one of them says so.
 */
function liveServer(
  snapshot: ClusterSnapshot,
  host: string,
  isThat: boolean,
  verb: string | undefined,
  now: number,
): Doer {
  const all = liveServers(snapshot, now)
  const takes = ({ machine }: LiveServer) =>
    verb === undefined || (snapshot.machines.get(machine)?.allowed?.includes(verb) ?? true)
  const live = isThat || !all.some(takes) ? all : all.filter(takes)
  const chosen: LiveServer | undefined = isThat
    ? live.find(each => each.host === host)
    : (live.find(each => each.host !== host) ?? live[0])
  if (chosen) return { executor: { host: chosen.host, machine: chosen.machine }, problems: [] }
  const why = isThat
    ? `${host} is no server of the cluster that is connected, ready and free`
    : describeReason({ gate: 'no-server' })
  return { executor: undefined, problems: [why] }
}

/** The host's own machine. */
function theMachine(snapshot: ClusterSnapshot, host: string, { machine }: Subject, now: number): Doer {
  const problem = (reason: Reason) => ({
    executor: undefined,
    problems: [`${host}: ${describeReason(reason)}`],
  })
  if (machine === undefined) return problem({ gate: 'unbound' })
  const view = snapshot.machines.get(machine)
  if (!view?.connected || view.gone) return problem({ gate: 'away' })
  if (view.occupied) return problem({ gate: 'occupied' })
  if (!freshObservation(snapshot, machine, now)) return problem({ gate: 'unknown-state' })
  return { executor: { host, machine }, problems: [] }
}

function problemsOfAct(ask: ActAsk, context: ActContext, subject: Subject, now: number): string[] {
  const { snapshot, revision } = context
  const { record } = snapshot
  const { act, host, parameter } = ask
  const reading = newestView(snapshot, now)
  const view = reading.kind === 'read' ? reading.view : undefined
  switch (act) {
    case 'drain':
    case 'cordon':
    case 'uncordon':
      return view && !view.nodes.some(({ name }) => name === host)
        ? [`${host} has no Node in the cluster`]
        : []
    case 'leave':
      return whyNotLeave(ask, context, subject, now)
    case 'return':
      return mayReturn(record, host, subject.machine, now)
        ? []
        : [
            `${host} did not leave by an operator’s word, and nothing that failed there waits to be tried again`,
          ]
    case 'restore':
      return subject.server
        ? whyNotRestore(snapshot, { host, machine: subject.machine }, now)
        : [`${host} is no server`]
    case 'rotate': {
      if (parameter === 'tokens' || !subject.server) return []
      const change = serverChangeOf(record, snapshot.distribution)
      if (change) return [describeReason(change)]
      const quorum = readQuorum(snapshot, now)
      const why = quorum.kind === 'read' ? whyNotStop(quorum.quorum, host) : quorum.reason
      return why ? [describeReason(why)] : []
    }
    case 'wipe': {
      const data = freshObservation(snapshot, subject.machine, now)?.data
      if (hasLostDatastore(snapshot, data) && record.left.get(host) !== subject.machine) {
        return whyNotWipeLost(snapshot, { host, machine: subject.machine }, now)
      }
      // Nothing to take away is soon done: a farewell asks for it after the leave, which took the data already.
      if (
        !data ||
        data.kind === 'none' ||
        !belongs(snapshot, data) ||
        record.left.get(host) === subject.machine
      )
        return []
      if (!view) return []
      const isIn =
        view.members.some(({ name }) => name === host) ||
        (!subject.server && view.nodes.some(({ name, ready }) => name === host && ready))
      return isIn ? [`${host} is in the cluster: let it leave, which takes its data away too`] : []
    }
    case 'manifests':
      return revision.number > 0 ? [] : ['nothing was published yet']
    case 'snapshot':
    case 'snapshots':
    case 'kubeconfig':
    case 'certificates':
      return []
  }
}

/** What is left on a server without its datastore may be the last of the cluster's authorities, and its member counts until it is out. */
function whyNotWipeLost(
  snapshot: ClusterSnapshot,
  { host, machine }: { readonly host: string; readonly machine: string | undefined },
  now: number,
): string[] {
  const reading = newestView(snapshot, now)
  if (reading.kind === 'read') {
    return reading.view.members.some(({ name }) => name === host)
      ? [
          `${host} is still a member of the datastore: \`muster leave ${host} --dead\` has another server take it out first`,
        ]
      : []
  }
  const isAnyLeft = snapshot.hosts.some(other => {
    const view = snapshot.machines.get(other.machine ?? '')
    const data = view?.observation?.data
    const isOther = isServer(other.role) && other.machine !== machine && !view?.gone
    return isOther && data !== undefined && belongs(snapshot, data)
  })
  return isAnyLeft
    ? [`${host}: whether it is still a member cannot be told: ${describeReason(reading.reason)}`]
    : []
}

function whyNotLeave(
  { host, dead }: ActAsk,
  { snapshot }: ActContext,
  { machine, server }: Subject,
  now: number,
): string[] {
  const { record, machines } = snapshot
  if (machine === undefined && !dead) return [`${host}: ${describeReason({ gate: 'unbound' })}`]
  const id = machine ?? ''
  const isIn = newestView(snapshot, now)
  const there = isIn.kind === 'read' && isIn.view.nodes.some(({ name }) => name === host)
  if (record.left.get(host) === id && !there) return [`${host} has left already`]
  const view = machines.get(id)
  if (!dead && (!view?.connected || view.gone)) {
    return [`${host}: its machine is not connected; if it is gone for good, say so (--dead)`]
  }
  const seen = freshObservation(snapshot, machine, now)
  const isLost = hasLostDatastore(snapshot, seen?.data)
  if (!dead && isLost && seen?.data.kind === 'lost') {
    return [`${host}: ${describeReason(lostDatastore(snapshot, host, seen.data, now))}`]
  }
  if (dead && seen && seen.data.kind !== 'none' && !isLost) {
    return [`${host}: its machine is connected and in the cluster: let it leave by itself, or evict it first`]
  }
  const begun = record.leaves.some(leave => leave.machine === id && leave.server && leave.attempt)
  if (dead && begun && !view?.gone) {
    return [
      `${host} began to leave by itself, and may still be at it: if its machine is gone for good, evict it first`,
    ]
  }
  if (!dead && view?.occupied) return [`${host}: ${describeReason({ gate: 'occupied' })}`]
  const asked = askToLeave(record, { host, machine: id, server, dead, signed: undefined }, 'asked')
  const { waiting } = decideLeaves({ ...snapshot, record: asked }, now)
  return waiting
    .filter(each => each.host === host && !LEAVE_WAITS.has(each.reason.gate))
    .map(({ reason }) => `${host}: ${describeReason(reason)}`)
}

/** When the operator's order ends; undefined: none is needed; a text is what is wrong with it. */
function judgeSignature(
  ask: ActAsk,
  { snapshot, trust }: ActContext,
  subject: Subject,
  executor: Doer['executor'],
  now: number,
): number | undefined | string {
  const act = signedAct(ask.act)
  if (act === undefined) return undefined
  if (!trust) return 'the coordinator has no trust set: give it the fleet’s with `muster trust set`'
  const expected = {
    fleetId: trust.set.fleetId,
    cluster: snapshot.record.name,
    act,
    node: executor?.host ?? ask.host,
    machine: executor?.machine ?? subject.machine,
    dead: ask.dead,
    parameter: ask.parameter,
  }
  const verdict = verifyOperatorOrder(ask.signed, trust, expected, new Set(), new Date(now))
  return verdict.kind === 'verified' ? verdict.order.expiresMs : verdict.reason
}

function grantOf(
  ask: ActAsk,
  context: ActContext,
  { machine = '', server }: Subject,
  executor: Doer['executor'],
  signedUntilMs: number | undefined,
  now: number,
): Grant {
  const { host, dead, act, drain } = ask
  const base = { host, machine, executor, action: actionOf(ask, context), change: undefined, cordons: false }
  switch (act) {
    case 'leave': {
      const signed =
        ask.signed && signedUntilMs !== undefined
          ? { envelope: toBinary(EnvelopeSchema, ask.signed), untilMs: signedUntilMs }
          : undefined
      const leave = { host, machine, server, dead, signed }
      return { ...base, expiresMs: undefined, change: { kind: 'leave', leave } }
    }
    case 'return':
      return { ...base, expiresMs: undefined, change: { kind: 'return' } }
    case 'drain':
      return { ...base, expiresMs: now + drain.limitMs + HOUR_MS / 4, cordons: true }
    case 'cordon':
      return { ...base, expiresMs: now + HOUR_MS, cordons: true }
    case 'kubeconfig':
      return { ...base, expiresMs: now + KUBECONFIG_MS }
    case 'restore': {
      const isFounding = context.snapshot.record.founding?.state !== 'founded'
      return { ...base, expiresMs: now + HOUR_MS, ...(isFounding && { change: { kind: 'found' } }) }
    }
    case 'uncordon':
    case 'snapshot':
    case 'snapshots':
    case 'rotate':
    case 'certificates':
    case 'manifests':
    case 'wipe':
      return { ...base, expiresMs: now + HOUR_MS }
  }
}

/** What the machine is told. */
function actionOf(ask: ActAsk, context: ActContext): ClusterOrderInit['action'] | undefined {
  const { snapshot, revision, endpoint } = context
  const { act, host: node, parameter, drain, allowEmpty } = ask
  const signed = ask.signed ? { signedOrder: ask.signed } : {}
  switch (act) {
    case 'leave':
    case 'return':
      return undefined
    case 'drain':
    case 'cordon': {
      const { limitMs, deleteEmptyDir, deleteUnmanaged } = drain
      const cordonOnly = act === 'cordon'
      const limit = durationFromMs(limitMs)
      const takesOver = cordonToChange(context) ?? ''
      return { case: 'drain', value: { node, limit, deleteEmptyDir, deleteUnmanaged, cordonOnly, takesOver } }
    }
    case 'uncordon':
      // An operator lifts whichever is ours, a rollout only what it names: by its own name none.
      return {
        case: 'uncordon',
        value: { node, cordonedBy: context.onTheWay ? (cordonToChange(context) ?? ask.requestId) : '' },
      }
    case 'snapshot':
      return { case: 'snapshot', value: { name: parameter } }
    case 'snapshots':
      return { case: 'snapshots', value: {} }
    case 'restore':
      return {
        case: 'restore',
        value: { name: parameter, authority: authorityOf(snapshot.record) ?? '', ...signed },
      }
    case 'rotate':
      return { case: 'rotate', value: { what: parameter, ...signed } }
    case 'kubeconfig':
      return { case: 'kubeconfig', value: { serverAddress: ask.serverAddress || endpoint, ...signed } }
    case 'certificates':
      return { case: 'certificates', value: {} }
    case 'manifests': {
      const { number, digest } = revision
      return { case: 'manifests', value: { revision: BigInt(number), manifestDigest: digest, allowEmpty } }
    }
    case 'wipe':
      return { case: 'wipe', value: { ...signed, keepSnapshots: parameter === KEEP_SNAPSHOTS } }
  }
}

/** The act whose cordon may be taken over or lifted: by an operator any of ours, by a rollout one that rollouts set. */
function cordonToChange({ cordon, onTheWay }: ActContext): string | undefined {
  return onTheWay && cordon?.rollout === undefined ? undefined : cordon?.act
}
