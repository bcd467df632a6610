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
 * have data of a cluster stops everything, and so does a server of which nobody knows: two founders cannot be mended. A worker that
 * was not heard yet does not: a cluster would never begin while one of its workers is off, and without a server there is none.
 */
export function decideFounding(snapshot: ClusterSnapshot, now: number): Decision {
  const { record, hosts, machines } = snapshot
  const { founding } = record
  if (founding?.state === 'founded') return { steps: [], waiting: [] }
  const wait = (reason: Reason, host = ''): Decision => ({ steps: [], waiting: [{ host, reason }] })

  const mayHaveFounded = founding !== undefined && !machines.get(founding.machine)?.gone
  const dataOf = ({ machine = '' }: Pick<WantedHost, 'machine'>) => machines.get(machine)?.observation?.data
  const holders = hosts.filter(({ machine }) => {
    if (machine === undefined || (mayHaveFounded && machine === founding.machine)) return false
    const data = dataOf({ machine })?.kind
    return data === 'cluster' || data === 'unreadable' || data === 'lost'
  })
  const [holder] = holders
  const carried = holders.some(({ role }) => isServer(role)) ? undefined : snapshotCarried(snapshot)
  if (carried && founding?.state !== 'ordered') return wait(carried, carried.host)
  const isRunning = holders.find(each => dataOf(each)?.kind !== 'lost')
  if (isRunning) return wait({ gate: 'adopt-first', host: isRunning.host })
  const lost = holder && dataOf(holder)
  if (lost?.kind === 'lost')
    return wait({ gate: 'lost-datastore', host: holder?.host ?? '', path: lost.path }, holder?.host)
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

/** Whoever put a snapshot on a server means to have the cluster back that there was, and not another one. */
function snapshotCarried({ record, hosts, machines }: ClusterSnapshot) {
  for (const { host, role, machine = '' } of hosts) {
    const view = machines.get(machine)
    const [name] = view?.observation?.snapshots ?? []
    if (name === undefined || !isServer(role) || view?.gone) continue
    return { gate: 'snapshot-found', cluster: record.name, host, name } as const
  }
  return undefined
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

/** For longer than a restart takes nobody is connected who has a server's data. */
function areLost(snapshot: ClusterSnapshot, now: number): boolean {
  const { machines, hosts, firstAbsentMs } = snapshot
  if (firstAbsentMs !== undefined && now - firstAbsentMs < FIRST_AWAY_MS) return false
  return !hosts.some(({ role, machine = '' }) => {
    const view = machines.get(machine)
    const { data } = view?.observation ?? {}
    return isServer(role) && view?.connected && data !== undefined && belongs(snapshot, data)
  })
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
  if (!next) {
    const reason = areLost(snapshot, now)
      ? ({ gate: 'no-server', lost: record.name } as const)
      : ({ gate: 'no-server' } as const)
    return { steps: [], waiting: [{ host: '', reason }] }
  }
  const why = `the server before is not there, and that of ${next.host} is`
  return { steps: [{ kind: 'move-first', machine: next.machine, why }], waiting: [] }
}
