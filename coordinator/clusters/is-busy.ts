import { isServer } from './cluster-record.ts'
import type { ClusterSnapshot } from './cluster-snapshot.ts'
import type { Reason, Waiting } from './reasons.ts'

/** What is waited for is news of machines. */
const NEWS: ReadonlySet<Reason['gate']> = new Set(['recount', 'unknown-state', 'leftovers', 'not-ready'])

/** Something is under way in a cluster, so that what its machines see is wanted often. */
export function isBusy({ record }: ClusterSnapshot, waiting: readonly Waiting[]): boolean {
  const { founding, joins, clears, leaves } = record
  return (
    (founding !== undefined && founding.state !== 'founded') ||
    joins.length + clears.length > 0 ||
    leaves.some(({ attempt }) => attempt !== undefined) ||
    waiting.some(({ reason }) => NEWS.has(reason.gate))
  )
}

/** What this machine sees is what something waits for: it is a server, or something is done to it. */
export function isInvolved(
  { hosts, record }: ClusterSnapshot,
  waiting: readonly Waiting[],
  machine: string,
): boolean {
  const { founding, joins, clears, leaves } = record
  const waitsFor = (host: string) => waiting.some(each => each.host === host && NEWS.has(each.reason.gate))
  return (
    hosts.some(each => each.machine === machine && waitsFor(each.host)) ||
    founding?.machine === machine ||
    hosts.some(host => host.machine === machine && isServer(host.role)) ||
    [...joins, ...clears, ...leaves].some(each => each.machine === machine)
  )
}
