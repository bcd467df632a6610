import type { Leave } from './cluster-record.ts'
import {
  belongs,
  type ClusterSnapshot,
  freshObservation,
  liveServers,
  type NodeData,
  settledObservation,
} from './cluster-snapshot.ts'
import type { Decision } from './decide-cluster.ts'
import { lostDatastore } from './decide-joins.ts'
import { readQuorum, whyNotRemove } from './quorum.ts'
import type { Reason, Waiting } from './reasons.ts'
import { serverChangeOf } from './server-change.ts'
import { isOfDatastore } from './set-back.ts'
import type { Step } from './steps.ts'

/** When a leave that an operator asked for may begin: a server only when the datastore agrees without it afterwards. */
export function decideLeaves(snapshot: ClusterSnapshot, now: number): Decision {
  const { record, distribution } = snapshot
  const steps: Step[] = []
  const waiting: Waiting[] = []
  let change = serverChangeOf(record, distribution)
  for (const leave of record.leaves) {
    const { request, host, server, attempt, notBeforeMs, failures, signed, reason: why } = leave
    const successor = snapshot.hosts.find(each => each.host === host)?.machine
    if (successor !== undefined && successor !== leave.machine && !attempt) {
      steps.push({ kind: 'forget-leave', request, why: `${host} is another machine now` })
      continue
    }
    if (signed && signed.untilMs <= now && !attempt) {
      steps.push({ kind: 'forget-leave', request, why: 'the operator’s order has expired' })
      continue
    }
    if (attempt) {
      const gone = snapshot.machines.get(attempt.executor)?.gone ?? true
      if (gone)
        steps.push({ kind: 'retry-leave', request, why: 'the machine that was to do it was sent away' })
      continue
    }
    const choice =
      notBeforeMs > now
        ? { reason: { gate: 'backing-off', untilMs: notBeforeMs, failures, why } as const }
        : server && change
          ? { reason: change }
          : choose(snapshot, leave, now)
    if ('reason' in choice) {
      waiting.push({ host, reason: choice.reason })
      continue
    }
    steps.push({ kind: 'leave', request, executor: choice.executor, why: 'an operator ordered it' })
    if (server) change = { gate: 'server-change', host, operation: request }
  }
  return { steps, waiting }
}

function choose(
  snapshot: ClusterSnapshot,
  leave: Leave,
  now: number,
): { readonly executor: string } | { readonly reason: Reason } {
  const { host, machine } = leave
  // A machine whose disk is empty has nothing to leave with; what is left of it is taken out like that of a dead one.
  const data = settledObservation(snapshot, machine, now)?.data
  // So is one of before the datastore was set back: by itself it would take its member out of a datastore that is no more.
  const dead = leave.dead || data?.kind === 'none' || isSetBack(snapshot, leave, data)
  // It can take out nothing of its own, and that another one does it has to be asked for in so many words.
  if (data?.kind === 'lost' && !dead) return { reason: lostDatastore(snapshot, host, data, now) }
  if (snapshot.record.founding?.state !== 'founded') return { reason: { gate: 'no-server' } }
  const servers = liveServers(snapshot, now).filter(server => server.machine !== machine)
  const [server] = servers
  if (!server)
    return { reason: isOnlyServer(snapshot, leave, now) ? { gate: 'last-server' } : { gate: 'no-server' } }
  const reading = readQuorum(snapshot, now)
  if (reading.kind === 'unknown') return { reason: reading.reason }
  const member = reading.quorum.members.find(({ name }) => name === host)
  if (member && !leave.server) return { reason: { gate: 'is-a-server', host } }
  if (member) {
    if (dead && member.healthy) return { reason: { gate: 'member-alive', host } }
    const reason = whyNotRemove(reading.quorum, host)
    if (reason) return { reason }
  }
  if (dead) return { executor: server.machine }
  if (!settledObservation(snapshot, machine, now)) return { reason: { gate: 'away' } }
  // It would refuse the order, and be said to have failed.
  return snapshot.machines.get(machine)?.occupied ? { reason: { gate: 'occupied' } } : { executor: machine }
}

function isSetBack(
  snapshot: ClusterSnapshot,
  { machine, server }: Leave,
  data: NodeData | undefined,
): boolean {
  return server && data !== undefined && belongs(snapshot, data) && !isOfDatastore(snapshot.record, machine)
}

function isOnlyServer(snapshot: ClusterSnapshot, { machine, host }: Leave, now: number): boolean {
  const members = freshObservation(snapshot, machine, now)?.view?.members ?? []
  return members.length > 0 && members.every(({ name }) => name === host)
}
