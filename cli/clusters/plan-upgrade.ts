import type { ClusterHost } from '../../shared/gen/muster/v1/cluster_pb.ts'
import { judgeDatastore } from '../../shared/kubernetes/judge-datastore.ts'
import { judgeTarget, type Running } from '../../shared/kubernetes/judge-skew.ts'
import { compareVersions, parseVersion, type Version, versionText } from '../../shared/kubernetes/version.ts'
import { isServerRole } from '../output/cluster-listing.ts'

/** One host of an upgrade, in the order of their turns. */
export interface UpgradeLine {
  /** Hosts of the same number may go together; 0: it has no turn. */
  readonly turn: number
  readonly host: string
  readonly server: boolean
  /** What runs there; undefined: not known. */
  readonly from: string | undefined
  /**
   * `there`: it runs the version; `new`: it has not joined, and gets its Kubernetes; `away`: it has not joined and gets nothing by
   * this, since no machine is bound to it or its Kubernetes comes with the system.
   */
  readonly state: 'there' | 'moves' | 'new' | 'unknown' | 'away'
}

export interface UpgradePlan {
  readonly lines: readonly UpgradeLine[]
  /** Nothing is moved while there are any. */
  readonly problems: readonly string[]
}

/**
 * The order in which a cluster goes to a version as far as it can be told from here, and what stands in its way: servers one at a time,
 * then workers together. The coordinator judges each step anew when it comes, and takes the server that leads the datastore last; who
 * that is, is not known here, so the first server stands in for it.
 */
export function planUpgrade(
  hosts: readonly ClusterHost[],
  firstServer: string,
  to: Version,
  apart: boolean,
  distribution: string,
): UpgradePlan {
  const servers: Running[] = []
  const workers: Running[] = []
  const unknown: string[] = []
  for (const { host, role, joined, version: text } of hosts) {
    if (!joined || host === '') continue
    const version = parseVersion(text)
    if (version) (isServerRole(role) ? servers : workers).push({ host, version })
    else if (isServerRole(role)) unknown.push(host)
  }
  const named = hosts.filter(({ host }) => host !== '')
  const inOrder = [
    ...named.filter(({ role, host }) => isServerRole(role) && host !== firstServer),
    ...named.filter(({ role, host }) => isServerRole(role) && host === firstServer),
    ...named.filter(({ role }) => !isServerRole(role)),
  ]
  let turn = 0
  let workersTurn: number | undefined
  const lines = inOrder.map((each): UpgradeLine => {
    const line = { host: each.host, server: isServerRole(each.role), from: each.version || undefined }
    const state = stateOf(each, to, apart)
    if (state === 'there' || state === 'away') return { ...line, state, turn: 0 }
    if (line.server) turn += 1
    else workersTurn ??= turn + 1
    return { ...line, state, turn: line.server ? turn : (workersTurn ?? 0) }
  })
  return {
    lines,
    problems: [
      ...[...judgeTarget(servers, workers, to), ...judgeDatastore(distribution, servers, to)].map(
        ({ reason }) => reason,
      ),
      ...unknown.map(
        host => `${host}: what runs there is not known: a server of which nothing is known stops everything`,
      ),
    ],
  }
}

function stateOf(
  { joined, machine, version: text }: ClusterHost,
  to: Version,
  apart: boolean,
): UpgradeLine['state'] {
  if (!joined) return apart && machine !== '' ? 'new' : 'away'
  const version = parseVersion(text)
  if (!version) return 'unknown'
  return compareVersions(version, to) === 0 ? 'there' : 'moves'
}

/** Which rollout moves a cluster to what the newest revision says: Kubernetes alone, or the systems that hold it. */
export type UpgradeWay =
  | { readonly kind: 'go'; readonly action: 'upgrade' | 'apply' }
  | { readonly kind: 'refused'; readonly reason: string }

export function chooseWay(
  cluster: string,
  targets: readonly {
    readonly cluster: string
    readonly kubernetes?: { readonly apart: boolean } | undefined
  }[],
): UpgradeWay {
  const kinds = new Set(
    targets.flatMap(target =>
      target.cluster === cluster && target.kubernetes ? target.kubernetes.apart : [],
    ),
  )
  const [apart, other] = kinds
  if (apart === undefined)
    return { kind: 'refused', reason: `cluster ${cluster}: the newest revision has no host of it` }
  if (other !== undefined) {
    return {
      kind: 'refused',
      reason: `cluster ${cluster}: on some hosts Kubernetes lives apart, on others in the system, so no one rollout moves it: give \`life\` one value, and publish`,
    }
  }
  return { kind: 'go', action: apart ? 'upgrade' : 'apply' }
}

/** What is wrong with the version asked for, by what the newest revision says; undefined: nothing. */
export function versionProblem(
  cluster: string,
  asked: Version,
  {
    revision,
    version,
    place,
  }: { readonly revision: number; readonly version: string | undefined; readonly place: string },
): string | undefined {
  const says = parseVersion(version ?? '')
  if (says && compareVersions(says, asked) === 0) return undefined
  const text = versionText(asked)
  return (
    `cluster ${cluster}: revision ${revision} says ${version ?? 'no version'}, not ${text}: ` +
    `write version = "${text}" at ${place}, \`muster publish\`, and ask again`
  )
}
