import type { Kysely } from 'kysely'
import type { Database } from '../../store/tables.ts'
import { findAct, listCordons } from './act-store.ts'
import type { ClusterAct, Cordon } from './cluster-act.ts'
import type { ManifestsState } from './wanted-manifests.ts'

const HOUR_MS = 3_600_000
/** A drain is part of something: when it is long over, what it was for was forgotten, or failed. A cordon was meant. */
const FORGOTTEN_MS = { drain: HOUR_MS, cordon: 24 * HOUR_MS } as const
const TRIED_OFTEN = 3

/** What acts of a cluster left behind that a person should know of. */
export async function actProblems(
  db: Kysely<Database>,
  cluster: string,
  manifests: ManifestsState | undefined,
  now: number,
): Promise<readonly string[]> {
  const problems: string[] = []
  for (const cordon of await listCordons(db, cluster)) {
    const problem = forgottenCordon(cordon, await findAct(db, cordon.act), now)
    if (problem !== undefined) problems.push(problem)
  }
  const newest = manifests?.newest
  if (newest && newest.endedMs === undefined && newest.attempts >= TRIED_OFTEN) {
    problems.push(`cluster ${cluster}: its manifests are not brought: ${newest.reason}`)
  }
  return problems
}

/** A cordon of ours that is older than its operation; undefined: it may be. */
export function forgottenCordon(
  { cluster, host, atMs, askedBy }: Cordon,
  act: Pick<ClusterAct, 'act' | 'endedMs'> | undefined,
  now: number,
): string | undefined {
  if (act && act.endedMs === undefined) return undefined
  const sinceMs = act?.endedMs ?? atMs
  const leftMs = act?.act === 'cordon' ? FORGOTTEN_MS.cordon : FORGOTTEN_MS.drain
  if (now - sinceMs < leftMs) return undefined
  const since = new Date(atMs).toISOString()
  return `cluster ${cluster}: ${host} is cordoned by us since ${since} (${askedBy || 'nobody knows any more who asked for it'}), and what that was for is over: \`muster uncordon ${host}\``
}
