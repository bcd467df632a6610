import { authorityOf, type Distribution, isNamedBy, isServer } from './cluster-record.ts'
import {
  belongs,
  type ClusterSnapshot,
  liveServers,
  type NodeData,
  type NodeObject,
  newestView,
  settledObservation,
  type WantedHost,
} from './cluster-snapshot.ts'
import { hasOwnAttempt, leftoversOf } from './decide-clears.ts'
import type { Decision } from './decide-cluster.ts'
import { whyVersionsForbid } from './join-versions.ts'
import { countQuorum, readQuorum, whyNoQuorum, whyNotAdd } from './quorum.ts'
import type { Reason, Waiting } from './reasons.ts'
import { serverChangeOf } from './server-change.ts'
import { isOfDatastore } from './set-back.ts'
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
    const able = minters.filter(each => !barredOf(snapshot, each.host))
    // One server may refuse what another one does, such as k3s' that was not restarted since its token was made anew.
    const failures = machine === undefined ? 0 : (record.attempts.get(machine)?.failures ?? 0)
    const minter = able[failures % Math.max(1, able.length)]
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
    if (isServer(role) && !isOfDatastore(record, machine)) return { gate: 'set-back', host }
    const standing = isServer(role) ? standingOfServer(snapshot, host, now) : 'joined'
    return standing === 'joined' && hasNoNode(snapshot, wanted, now) ? { gate: 'no-node', host } : standing
  }
  if (data.kind === 'lost') return lostDatastore(snapshot, host, data, now)
  if (record.left.get(host) === machine) return { gate: 'left' }
  const attempt = record.attempts.get(machine)
  if (data.kind === 'unfinished' && !isNamedBy(record, data.operation)) {
    return { gate: 'unfinished-data', operation: data.operation }
  }
  if (wanted.barred) return wanted.barred
  if (view.occupied) return { gate: 'occupied' }
  if (attempt && attempt.notBeforeMs > now) {
    const { notBeforeMs: untilMs, failures, reason } = attempt
    return { gate: 'backing-off', untilMs, failures, why: reason, host }
  }
  // The token of the attempt before is still to be deleted, or the joiner to say that it has given up.
  return join ? { gate: 'token-owed', operation: join.operation, minter: join.minter } : undefined
}

/** Why a server without its datastore waits, and what mends it: by what the other servers count as members. */
export function lostDatastore(
  snapshot: ClusterSnapshot,
  host: string,
  { authority, path }: Extract<NodeData, { kind: 'lost' }>,
  now: number,
): Reason {
  if (authority !== authorityOf(snapshot.record) && snapshot.record.founding?.state === 'founded')
    return { gate: 'foreign-data', authority }
  const reading = readQuorum(snapshot, now)
  if (reading.kind === 'unknown') return { gate: 'lost-datastore', host, path }
  const isIn = reading.quorum.members.some(({ name }) => name === host)
  return { gate: 'lost-datastore', host, path, standing: isIn ? 'member' : 'out' }
}

function standingOfServer(snapshot: ClusterSnapshot, host: string, now: number): 'joined' | Reason {
  const reading = readQuorum(snapshot, now)
  if (reading.kind === 'unknown') return 'joined'
  return reading.quorum.members.some(({ name }) => name === host) ? 'joined' : { gate: 'not-a-member', host }
}

/**
 * Pods are to run on it, and no server knows a Node of its name, by what each saw after it had joined: somebody deleted it while its
 * kubelet ran, which makes one only when it starts. Servers without pods may have none.
 */
function hasNoNode(
  snapshot: ClusterSnapshot,
  { host, machine = '', role }: WantedHost,
  now: number,
): boolean {
  const { record } = snapshot
  if (role === 'server' || record.left.get(host) === machine) return false
  const sinceMs = Math.max(record.attempts.get(machine)?.overMs ?? 0, record.settledMs)
  const seen = liveServers(snapshot, now).filter(({ asOfMs }) => asOfMs > sinceMs)
  const isNode = ({ name, uid }: NodeObject) => name === host && uid !== ''
  return seen.length > 0 && !seen.some(({ view }) => view.nodes.some(isNode))
}

function whyNotNow(snapshot: ClusterSnapshot, wanted: WantedHost, now: number): Reason | undefined {
  const reading = newestView(snapshot, now)
  if (reading.kind === 'unknown') return reading.reason
  const { host, role } = wanted
  if (leftoversOf(reading.view, host, hasOwnAttempt(snapshot, wanted, now)))
    return { gate: 'leftovers', host }
  const quorum = countQuorum(reading.view.members)
  const why = isServer(role) ? whyNotAdd(quorum) : whyNoQuorum(quorum)
  return why ?? whyVersionsForbid(snapshot, wanted, reading.view, now)
}

/** The hosts that have joined and not left since, by what their machines said last: one that is gone for good says no more. */
export function joinedHosts({ hosts, machines, record }: ClusterSnapshot): readonly string[] {
  const authority = authorityOf(record)
  if (authority === undefined) return []
  return hosts
    .filter(({ host, role, machine = '' }) => {
      if (record.left.has(host) && record.left.get(host) === machine) return false
      if (isServer(role) && !isOfDatastore(record, machine)) return false
      const data = machines.get(machine)?.observation?.data
      return data?.kind === 'cluster' && data.authority === authority
    })
    .map(({ host }) => host)
}
