import { isServer } from './cluster-record.ts'
import type { ClusterSnapshot } from './cluster-snapshot.ts'

/** Something is under way in a cluster, so that what its machines see is wanted often. */
export function isBusy({ record }: ClusterSnapshot): boolean {
  const { founding, joins, clears, leaves } = record
  return (
    (founding !== undefined && founding.state !== 'founded') ||
    joins.length + clears.length > 0 ||
    leaves.some(({ attempt }) => attempt !== undefined)
  )
}

/** What this machine sees is what something waits for: it is a server, or something is done to it. */
export function isInvolved({ hosts, record }: ClusterSnapshot, machine: string): boolean {
  const { founding, joins, clears, leaves } = record
  return (
    founding?.machine === machine ||
    hosts.some(host => host.machine === machine && isServer(host.role)) ||
    [...joins, ...clears, ...leaves].some(each => each.machine === machine)
  )
}
