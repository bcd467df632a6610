import { judgeMove, judgeTarget, type Running, type SkewProblem } from '../../shared/kubernetes/judge-skew.ts'
import { compareVersions, parseVersion, type Version } from '../../shared/kubernetes/version.ts'
import { isServer } from './cluster-record.ts'
import { type ClusterSnapshot, freshObservation, type WantedHost } from './cluster-snapshot.ts'
import { readQuorum, whyNotStop } from './quorum.ts'
import type { Reason, Waiting } from './reasons.ts'
import { serverChangeOf } from './server-change.ts'

/** Where an upgrade stands: what may be moved now, and what waits for what. */
export interface UpgradeStanding {
  /** Nothing is moved while there are any. */
  readonly problems: readonly SkewProblem[]
  /** The one server that may be moved; undefined: none now. */
  readonly server: string | undefined
  /** Workers that may be moved; how many at once is not decided here. Empty until every server runs the version. */
  readonly workers: readonly string[]
  readonly waiting: readonly Waiting[]
}

/**
 * What may be brought to a version now. Servers first, one at a time, the first server last, and each only when the
 * datastore agrees without it; then workers. A server of which nothing is known stops everything.
 */
export function decideUpgrade(snapshot: ClusterSnapshot, to: Version, now: number): UpgradeStanding {
  const { hosts, record, distribution } = snapshot
  const servers: Running[] = []
  const workers: Running[] = []
  const waiting: Waiting[] = []
  let blocked = false
  for (const wanted of hosts) {
    const version = versionOf(snapshot, wanted, now)
    if (version) (isServer(wanted.role) ? servers : workers).push({ host: wanted.host, version })
    else {
      waiting.push({ host: wanted.host, reason: { gate: 'unknown-state' } })
      blocked ||= isServer(wanted.role)
    }
  }
  const problems = judgeTarget(servers, workers, to)
  const nothing = { problems, server: undefined, workers: [], waiting }
  if (problems.length > 0 || blocked) return nothing

  const behind = servers.filter(({ version }) => compareVersions(version, to) !== 0)
  if (behind.length > 0) {
    const last = (each: Running) =>
      Number(hosts.some(h => h.host === each.host && h.machine === record.firstServer))
    const [next] = [...behind].sort((a, b) => last(a) - last(b))
    if (!next) return nothing
    const reason = serverChangeOf(record, distribution) ?? whyNotNow(snapshot, next.host, now)
    const skew = judgeMove(next.host, true, to, servers, workers)
    if (reason) waiting.push({ host: next.host, reason })
    return { ...nothing, problems: skew, server: reason || skew.length > 0 ? undefined : next.host }
  }
  const movable = workers.filter(
    ({ host, version }) =>
      compareVersions(version, to) !== 0 && judgeMove(host, false, to, servers, workers).length === 0,
  )
  return { ...nothing, workers: movable.map(({ host }) => host) }
}

function versionOf(snapshot: ClusterSnapshot, { machine }: WantedHost, now: number): Version | undefined {
  const text = freshObservation(snapshot, machine, now)?.version
  return text === undefined ? undefined : parseVersion(text)
}

function whyNotNow(snapshot: ClusterSnapshot, host: string, now: number): Reason | undefined {
  const reading = readQuorum(snapshot, now)
  return reading.kind === 'unknown' ? reading.reason : whyNotStop(reading.quorum, host)
}
