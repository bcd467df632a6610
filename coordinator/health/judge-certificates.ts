import type { CertificateEnds, SoonestEnd } from '../clusters/cluster-snapshot.ts'
import type { HealthProblem } from './judge-fleet.ts'

/** What a node of a cluster says of its certificates. */
export interface ClusterNodeLife {
  readonly machine: string
  /** Empty: none is bound to it. */
  readonly host: string
  readonly cluster: string
  readonly distribution: string
  readonly server: boolean
  readonly certificates: CertificateEnds
}

const DAY_MS = 86_400_000
/** Before the end of what somebody has to do something about. */
export const WARN_MS = 30 * DAY_MS
/** An authority takes more than one command to follow. */
export const AUTHORITY_WARN_MS = 180 * DAY_MS
/** One that was made for a shorter time is not near its end from its first day. */
const WARN_PART = 1 / 3
/** A kubelet renews when between seven and nine tenths of the time are over: what has less left than this was not renewed. */
const RENEWED_PART = 0.09

/** Certificates of clusters that end soon, though nothing will make them anew unless somebody does something. */
export function judgeCertificates(
  nodes: readonly ClusterNodeLife[],
  nowMs: number,
): readonly HealthProblem[] {
  return [...nodes.flatMap(node => ofNode(node, nowMs)), ...ofAuthorities(nodes, nowMs)]
}

/** So long before its end it is named. */
export function warnsMs({ kind, beganMs, endsMs }: Omit<SoonestEnd, 'path'>): number {
  const lifeMs = Math.max(0, endsMs - beganMs)
  switch (kind) {
    case 'renewed':
      return Math.min(WARN_MS, lifeMs * RENEWED_PART)
    case 'authority':
      return Math.min(AUTHORITY_WARN_MS, lifeMs * WARN_PART)
    case 'ordered':
    case 'self-signed':
      return Math.min(WARN_MS, lifeMs * WARN_PART)
  }
}

function ofNode(node: ClusterNodeLife, nowMs: number): HealthProblem[] {
  const { cluster, certificates } = node
  if (certificates.kind === 'unreadable') {
    const reason = `when its certificates in cluster ${cluster} end cannot be read: ${certificates.reason}`
    return [problem(node, reason, nowMs, `look at that file; muster cluster certificates ${cluster}`)]
  }
  return certificates.soonest.flatMap(end =>
    end.kind === 'authority' || end.endsMs - nowMs >= warnsMs(end)
      ? []
      : [problem(node, inWords(node, end, nowMs), sinceMs(end, nowMs), remedyOf(node, end, nowMs))],
  )
}

/** All nodes of a cluster have its authorities' certificates: each that ends is named once. */
function ofAuthorities(nodes: readonly ClusterNodeLife[], nowMs: number): HealthProblem[] {
  const soonest = new Map<string, { readonly node: ClusterNodeLife; readonly end: SoonestEnd }>()
  for (const node of nodes) {
    if (node.certificates.kind === 'unreadable') continue
    for (const end of node.certificates.soonest) {
      if (end.kind !== 'authority' || end.endsMs - nowMs >= warnsMs(end)) continue
      const known = soonest.get(node.cluster)
      if (!known || end.endsMs < known.end.endsMs) soonest.set(node.cluster, { node, end })
    }
  }
  return [...soonest.values()].map(({ node, end }) =>
    problem(node, inWords(node, end, nowMs), sinceMs(end, nowMs), remedyOf(node, end, nowMs)),
  )
}

const sinceMs = (end: SoonestEnd, nowMs: number): number => Math.min(nowMs, end.endsMs - warnsMs(end))

function inWords({ cluster }: ClusterNodeLife, end: SoonestEnd, nowMs: number): string {
  const { kind, path, endsMs } = end
  const what = kind === 'authority' ? 'an authority’s certificate' : 'a certificate'
  const late = kind === 'renewed' ? ', and its kubelet did not renew it' : ''
  return `${what} of cluster ${cluster} ${endsMs <= nowMs ? 'ended' : 'ends'} at ${new Date(endsMs).toISOString()}${late} (${path})`
}

function remedyOf(node: ClusterNodeLife, { kind, path, endsMs }: SoonestEnd, nowMs: number): string {
  const { cluster, distribution, server } = node
  const host = node.host || 'HOST'
  switch (kind) {
    case 'renewed':
      return `look at the kubelet on ${host}, in its journal: does it run, and does it reach a server?`
    case 'authority':
      return `no command of Muster makes an authority anew: plan another one as ${distribution} describes it`
    case 'self-signed':
      return `take ${path} and its key away, then muster restart ${host}: the kubelet makes another one`
    case 'ordered': {
      const rotate = `muster cluster rotate ${cluster} certificates --on ${host}`
      if (endsMs > nowMs) return rotate
      // A worker of k3s shows it to the server that shall give it the next one, and has nothing else to show.
      if (!server)
        return `it has nothing left to show to a server: muster leave ${host}, then muster rejoin ${host}`
      return distribution === 'k3s'
        ? `${rotate}; where no server answers any more, start k3s anew on ${host}, which renews it`
        : rotate
    }
  }
}

function problem(
  { machine, host }: ClusterNodeLife,
  reason: string,
  since: number,
  remedy: string,
): HealthProblem {
  return { class: 'cluster-certificate', machine, host, reason, sinceMs: since, remedy }
}
