import { type ClusterRecord, isNamedBy } from './cluster-record.ts'
import {
  type ClusterSnapshot,
  liveServers,
  newestView,
  type ServerView,
  settledObservation,
  type WantedHost,
} from './cluster-snapshot.ts'
import type { Decision } from './decide-cluster.ts'
import { readQuorum, whyNotRemove } from './quorum.ts'
import type { Reason, Waiting } from './reasons.ts'
import { serverChangeOf } from './server-change.ts'
import type { Step } from './steps.ts'

/** What a cluster still has under the name of a machine that has nothing of the cluster. */
export interface Leftovers {
  readonly member: boolean
  readonly node: boolean
  /** Somebody lives under the name. */
  readonly alive: boolean
}

/**
 * `own`: the machine says that an attempt of ours is unfinished there, so that what lives under its name is itself, and the
 * next attempt goes on with it. What does not live may be of the machine that had the name before.
 */
export function leftoversOf(view: ServerView, name: string, own: boolean): Leftovers | undefined {
  const member = view.members.find(each => each.name === name)
  const node = view.nodes.find(each => each.name === name)
  if (own) {
    if (member && !member.learner && member.healthy) return undefined
    const stale = { member: member !== undefined, node: node !== undefined && !node.ready }
    return stale.member || stale.node ? { ...stale, alive: false } : undefined
  }
  if (!member && !node) return undefined
  return {
    member: member !== undefined,
    node: node !== undefined,
    alive: (member?.healthy ?? false) || (node?.ready ?? false),
  }
}

/**
 * A machine that was installed anew joins under its old name when what is left of the old one is gone: member of the
 * datastore, Node, node password. One host at a time, and only when the datastore can lose the member.
 */
export function decideClears(snapshot: ClusterSnapshot, now: number): Decision {
  const { record, distribution, machines } = snapshot
  const steps: Step[] = []
  const waiting: Waiting[] = []
  for (const clear of record.clears) {
    if (!machines.get(clear.server)?.gone) continue
    steps.push({ kind: 'forget-clear', operation: clear.operation, why: 'its server was sent away' })
  }
  if (record.founding?.state !== 'founded' || steps.length > 0) return { steps, waiting }
  let change = serverChangeOf(record, distribution)
  const [clearer] = liveServers(snapshot, now)
  for (const host of nodesLeftBehind(snapshot, now)) {
    const machine = record.left.get(host)
    if (machine === undefined || !clearer) continue
    if (change) {
      waiting.push({ host, reason: change })
      continue
    }
    const why = `${host} left, and the cluster still has its Node`
    steps.push({ kind: 'clear', host, machine, server: clearer.machine, why })
    change = { gate: 'server-change', host, operation: '' }
  }
  for (const wanted of snapshot.hosts) {
    if (!mayBeCleared(snapshot, record, wanted, now)) continue
    const [server] = liveServers(snapshot, now)
    const reading = newestView(snapshot, now)
    if (!server || reading.kind === 'unknown') break
    const left = leftoversOf(reading.view, wanted.host, hasOwnAttempt(snapshot, wanted, now))
    if (!left) continue
    const reason = change ?? whyNot(snapshot, wanted, left, now)
    if (reason) {
      waiting.push({ host: wanted.host, reason })
      continue
    }
    const { host, machine = '' } = wanted
    const why = `${host} was installed anew, and the cluster still knows the old one`
    steps.push({ kind: 'clear', host, machine, server: server.machine, why })
    change = { gate: 'server-change', host, operation: '' }
  }
  return { steps, waiting }
}

/**
 * Hosts that left and whose Node is still there: a worker cannot delete its own. Seen after it had left, so that it is not
 * the Node of before, and after the newest change; a machine that is to have the name by now is another matter.
 */
export function nodesLeftBehind(snapshot: ClusterSnapshot, now: number): readonly string[] {
  const { record, hosts } = snapshot
  const [server] = liveServers(snapshot, now)
  if (!server) return []
  return [...record.left].flatMap(([host, machine]) => {
    const wanted = hosts.find(each => each.host === host)
    if (wanted?.machine !== undefined && wanted.machine !== machine) return []
    if (record.clears.some(clear => clear.host === host)) return []
    const { overMs = 0, notBeforeMs = 0 } = record.attempts.get(machine) ?? {}
    if (server.asOfMs <= Math.max(overMs, record.settledMs) || notBeforeMs > now) return []
    return server.view.nodes.some(({ name }) => name === host) ? [host] : []
  })
}

/** What is on its disk is an unfinished attempt of ours. */
export function hasOwnAttempt(snapshot: ClusterSnapshot, { machine }: WantedHost, now: number): boolean {
  const data = settledObservation(snapshot, machine, now)?.data
  return data?.kind === 'unfinished' && isNamedBy(snapshot.record, data.operation)
}

function mayBeCleared(
  snapshot: ClusterSnapshot,
  record: ClusterRecord,
  wanted: WantedHost,
  now: number,
): boolean {
  const { host, machine } = wanted
  const seen = settledObservation(snapshot, machine, now)
  if (machine === undefined || !seen || record.left.get(host) === machine) return false
  if (seen.data.kind !== 'none' && !hasOwnAttempt(snapshot, wanted, now)) return false
  if (snapshot.machines.get(machine)?.occupied || record.leaves.some(leave => leave.host === host))
    return false
  if ((record.attempts.get(machine)?.notBeforeMs ?? 0) > now) return false
  // While a join of it is under way, what is seen under its name may be its own.
  return !record.joins.some(join => join.host === host)
}

function whyNot(
  snapshot: ClusterSnapshot,
  { host }: WantedHost,
  left: Leftovers,
  now: number,
): Reason | undefined {
  if (left.alive) return { gate: 'name-in-use', host }
  if (!left.member) return undefined
  const reading = readQuorum(snapshot, now)
  return reading.kind === 'unknown' ? reading.reason : whyNotRemove(reading.quorum, host)
}
