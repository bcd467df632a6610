import { isNamedBy, isServer } from './cluster-record.ts'
import {
  belongs,
  type ClusterSnapshot,
  liveServers,
  settledObservation,
  type WantedHost,
} from './cluster-snapshot.ts'
import type { Decision } from './decide-cluster.ts'
import type { Reason } from './reasons.ts'

/** So often one machine is tried before the next one is. */
const TRIES = 3

/**
 * Who founds. Once, by a record that is written before the order is sent; another machine only when it is certain that
 * the first one has nothing: it said so itself after it failed, or an operator said that it is gone. A machine that may
 * have data of a cluster, or of which nobody knows, stops everything: two founders cannot be mended.
 */
export function decideFounding(snapshot: ClusterSnapshot, now: number): Decision {
  const { record, hosts, machines } = snapshot
  const { founding } = record
  if (founding?.state === 'founded') return { steps: [], waiting: [] }
  const wait = (reason: Reason, host = ''): Decision => ({ steps: [], waiting: [{ host, reason }] })

  const mayHaveFounded = founding !== undefined && !machines.get(founding.machine)?.gone
  for (const { host, machine } of hosts) {
    if (machine === undefined || (mayHaveFounded && machine === founding.machine)) continue
    const data = machines.get(machine)?.observation?.data.kind
    if (data === 'cluster' || data === 'unreadable') return wait({ gate: 'adopt-first', host })
  }
  if (founding && mayHaveFounded) {
    const { host, machine } = founding
    if (founding.state === 'ordered') {
      const there = machines.get(machine)?.connected
      return wait(there ? { gate: 'founding', host } : { gate: 'founder-away', host, machine })
    }
    const data = settledObservation(snapshot, machine, now)?.data
    if (data === undefined) return wait({ gate: 'founder-away', host, machine })
    if (data.kind === 'unfinished' && isNamedBy(record, data.operation)) {
      const again = hosts.find(each => each.machine === machine && isServer(each.role))
      return again ? found(snapshot, [again], now) : wait({ gate: 'founder-data', host })
    }
    if (data.kind !== 'none') return wait({ gate: 'founder-data', host })
  }

  const servers = hosts.filter(({ role, machine }) => isServer(role) && machine !== undefined)
  if (servers.length === 0) return wait({ gate: 'unbound' })
  for (const { host, machine } of servers) {
    const view = machine === undefined ? undefined : machines.get(machine)
    if (view?.gone) continue
    if (!view?.observation) return wait({ gate: 'server-unknown', host })
    const { data } = view.observation
    if (data.kind === 'unfinished' && !isNamedBy(record, data.operation)) {
      return wait({ gate: 'unfinished-data', operation: data.operation }, host)
    }
  }
  return found(snapshot, servers, now)
}

function found(snapshot: ClusterSnapshot, servers: readonly WantedHost[], now: number): Decision {
  const { record, machines } = snapshot
  const failures = ({ machine = '' }: WantedHost) => record.attempts.get(machine)?.failures ?? 0
  const able = servers.filter(({ machine, barred }) => {
    if (barred) return false
    const there = settledObservation(snapshot, machine, now) && !machines.get(machine ?? '')?.occupied
    return there && (record.attempts.get(machine ?? '')?.notBeforeMs ?? 0) <= now
  })
  const round = (each: WantedHost) => Math.floor(failures(each) / TRIES)
  const [chosen] = [...able].sort((a, b) => round(a) - round(b))
  if (!chosen || chosen.machine === undefined) {
    return {
      steps: [],
      waiting: servers.map(({ host }) => ({ host, reason: whyNotAble(snapshot, host, now) })),
    }
  }
  const why =
    record.founding === undefined
      ? 'no machine of the cluster has data, and none was told to found it'
      : 'the founding before came to nothing, and nothing of it is left'
  return { steps: [{ kind: 'found', machine: chosen.machine, host: chosen.host, why }], waiting: [] }
}

function whyNotAble(snapshot: ClusterSnapshot, host: string, now: number): Reason {
  const { machine = '', barred } = snapshot.hosts.find(each => each.host === host) ?? {}
  const view = snapshot.machines.get(machine)
  if (!view?.connected) return { gate: 'away' }
  if (barred) return barred
  if (view.occupied) return { gate: 'occupied' }
  if (!settledObservation(snapshot, machine, now)) return { gate: 'unknown-state' }
  const { failures = 0, notBeforeMs = 0, reason = '' } = snapshot.record.attempts.get(machine) ?? {}
  return { gate: 'backing-off', untilMs: notBeforeMs, failures, why: reason }
}

/** So long a first server that is away keeps its role: others mint meanwhile. */
export const FIRST_AWAY_MS = 60_000

/** The first server was live a short while ago, or nobody looked for longer, and by its last word it still is a server. */
function mayComeBack(snapshot: ClusterSnapshot, now: number): boolean {
  const { machines, record, firstAbsentMs } = snapshot
  const view = machines.get(record.firstServer ?? '')
  if (!view || view.gone || firstAbsentMs === undefined) return false
  const data = view.observation?.data
  return data !== undefined && belongs(snapshot, data) && now - firstAbsentMs < FIRST_AWAY_MS
}

/** The role of first server moves to another one that lives, when the one that has it does not. */
export function decideFirstServer(snapshot: ClusterSnapshot, now: number): Decision {
  const { record } = snapshot
  if (record.founding?.state !== 'founded') return { steps: [], waiting: [] }
  const live = liveServers(snapshot, now)
  if (live.some(({ machine }) => machine === record.firstServer)) return { steps: [], waiting: [] }
  if (live.length > 0 && mayComeBack(snapshot, now)) return { steps: [], waiting: [] }
  const next = live.find(({ host, view }) =>
    view.members.some(m => m.name === host && !m.learner && m.healthy),
  )
  if (!next) return { steps: [], waiting: [{ host: '', reason: { gate: 'no-server' } }] }
  const why = `the server before is not there, and that of ${next.host} is`
  return { steps: [{ kind: 'move-first', machine: next.machine, why }], waiting: [] }
}
