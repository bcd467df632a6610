import type { Authorities } from '../authority/authorities.ts'
import { findRevision } from '../store/revisions.ts'
import type { DescribeDeps } from './describe-machines.ts'
import type { FleetHealth } from './fleet-problems.ts'
import type { FleetTrust } from './fleet-trust.ts'

export interface FleetHealthDeps extends Pick<DescribeDeps, 'directory'> {
  readonly store: Pick<DescribeDeps['store'], 'db'>
  readonly authorities: Pick<Authorities, 'list'>
  readonly trust: FleetTrust
  readonly maxPending: number
}

/** What the coordinator knows of itself. */
export async function readFleetHealth(deps: FleetHealthDeps): Promise<FleetHealth> {
  const { authorities, directory, store, trust, maxPending } = deps
  const { targets } = directory
  const newest = targets.revision > 0 ? await findRevision(store.db, targets.revision) : undefined
  return {
    trustNumber: trust.number,
    authorities: authorities.list(),
    caPins: trust.newest?.set.caPins ?? [],
    revision: newest && { number: targets.revision, expires: newest.manifest.expires },
    ambiguous: targets.ambiguous,
    contested: directory.contested(),
    pending: directory.count('pending'),
    maxPending,
  }
}
