import { authorityOf, type Distribution, isNamedBy, isServer } from './cluster-record.ts'
import {
  belongs,
  type ClusterSnapshot,
  liveServers,
  newestView,
  settledObservation,
  type WantedHost,
} from './cluster-snapshot.ts'
import { hasOwnAttempt, leftoversOf } from './decide-clears.ts'
import type { Decision } from './decide-cluster.ts'
import { countQuorum, readQuorum, whyNoQuorum, whyNotAdd } from './quorum.ts'
import type { Reason, Waiting } from './reasons.ts'
import { serverChangeOf } from './server-change.ts'
import type { Step } from './steps.ts'

/** How many workers may join at once: what the servers of each distribution bear. */
export const WORKERS_AT_ONCE: Readonly<Record<Distribution, number>> = {
  k3s: 10,
  k0s: 30,
  kubernetes: 10,
  components: 10,
}

/**
 * For whom a token is minted, and on which server: servers one at a time and only into a datastore in which every voter
 * is healthy, workers side by side. A machine that has data of any cluster gets none.
 */
export function decideJoins(snapshot: ClusterSnapshot, now: number): Decision {
  const { record, distribution, hosts } = snapshot
  if (record.founding?.state !== 'founded') return { steps: [], waiting: [] }
  const steps: Step[] = []
  const waiting: Waiting[] = []
  let change = serverChangeOf(record, distribution)
  const limit = WORKERS_AT_ONCE[distribution]
  let taken = record.joins.filter(join => join.end === undefined && !isServer(join.role)).length
  const ordered = [...hosts].sort((a, b) => Number(isServer(b.role)) - Number(isServer(a.role)))
  for (const wanted of ordered) {
    const { host, machine, role } = wanted
    const standing = standingOf(snapshot, wanted, now)
    if (standing === 'joined') continue
    const server = isServer(role)
    const minters = liveServers(snapshot, now)
    const minter = minters.find(each => !barredOf(snapshot, each.host))
    const reason =
      standing ??
      (server ? change : undefined) ??
      (minter === undefined ? whyNoMinter(snapshot, minters) : undefined) ??
      whyNotNow(snapshot, wanted, now) ??
      (!server && taken >= limit ? ({ gate: 'slots', limit } as const) : undefined)
    if (reason || machine === undefined || minter === undefined) {
      waiting.push({ host, reason: reason ?? { gate: 'unbound' } })
      continue
    }
    const why = server
      ? 'every voter is healthy, and no other server joins or leaves'
      : 'the cluster has a server for it'
    steps.push({ kind: 'mint', machine, host, role, minter: minter.machine, why })
    if (server) change = { gate: 'server-change', host, operation: '' }
    else taken += 1
  }
  return { steps, waiting }
}

function barredOf({ hosts }: ClusterSnapshot, name: string): Reason | undefined {
  return hosts.find(({ host }) => host === name)?.barred
}

function whyNoMinter(snapshot: ClusterSnapshot, live: readonly { readonly host: string }[]): Reason {
  return (
    live.map(({ host }) => barredOf(snapshot, host)).find(each => each !== undefined) ?? {
      gate: 'no-server',
    }
  )
}

/** `joined`: nothing is to be done; undefined: it may join; else why not. */
function standingOf(
  snapshot: ClusterSnapshot,
  wanted: WantedHost,
  now: number,
): 'joined' | Reason | undefined {
  const { record, machines } = snapshot
  const { host, machine, role } = wanted
  if (machine === undefined) return { gate: 'unbound' }
  const join = record.joins.find(each => each.machine === machine)
  if (join && join.end === undefined) return { gate: 'joining', operation: join.operation }
  if (record.leaves.some(leave => leave.host === host)) return { gate: 'leaving' }
  const view = machines.get(machine)
  if (!view || view.gone || !view.connected) return { gate: 'away' }
  const seen = settledObservation(snapshot, machine, now)
  if (!seen) return { gate: 'unknown-state' }
  const { data } = seen
  if (data.kind === 'unreadable') return { gate: 'unreadable-data', reason: data.reason }
  if (data.kind === 'cluster') {
    if (!belongs(snapshot, data)) return { gate: 'foreign-data', authority: data.authority }
    return isServer(role) ? standingOfServer(snapshot, host, now) : 'joined'
  }
  if (record.left.get(host) === machine) return { gate: 'left' }
  const attempt = record.attempts.get(machine)
  if (data.kind === 'unfinished' && !isNamedBy(record, data.operation)) {
    return { gate: 'unfinished-data', operation: data.operation }
  }
  if (wanted.barred) return wanted.barred
  if (view.occupied) return { gate: 'occupied' }
  if (attempt && attempt.notBeforeMs > now) {
    const { notBeforeMs: untilMs, failures, reason } = attempt
    return { gate: 'backing-off', untilMs, failures, why: reason }
  }
  // The token of the attempt before is still to be deleted, or the joiner to say that it has given up.
  return join ? { gate: 'token-owed', operation: join.operation, minter: join.minter } : undefined
}

function standingOfServer(snapshot: ClusterSnapshot, host: string, now: number): 'joined' | Reason {
  const reading = readQuorum(snapshot, now)
  if (reading.kind === 'unknown') return 'joined'
  return reading.quorum.members.some(({ name }) => name === host) ? 'joined' : { gate: 'not-a-member' }
}

function whyNotNow(snapshot: ClusterSnapshot, wanted: WantedHost, now: number): Reason | undefined {
  const reading = newestView(snapshot, now)
  if (reading.kind === 'unknown') return reading.reason
  const { host, role } = wanted
  if (leftoversOf(reading.view, host, hasOwnAttempt(snapshot, wanted, now)))
    return { gate: 'leftovers', host }
  const quorum = countQuorum(reading.view.members)
  return isServer(role) ? whyNotAdd(quorum) : whyNoQuorum(quorum)
}

/** The hosts that have joined and not left since, by what their machines said last: one that is gone for good says no more. */
export function joinedHosts({ hosts, machines, record }: ClusterSnapshot): readonly string[] {
  const authority = authorityOf(record)
  if (authority === undefined) return []
  return hosts
    .filter(({ host, machine = '' }) => {
      if (record.left.has(host) && record.left.get(host) === machine) return false
      const data = machines.get(machine)?.observation?.data
      return data?.kind === 'cluster' && data.authority === authority
    })
    .map(({ host }) => host)
}
