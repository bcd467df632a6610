import type { Kysely } from 'kysely'
import type { NamedBy } from '../drift/desired-revision.ts'
import type { Database } from './tables.ts'

const CHUNK = 100
/** Rows that are looked back over, of a hundred hosts. */
const MOST = 10_000

/** By host the rollouts to a revision, or back from one, that named it: newest first. */
export async function rolloutsOfHosts(
  db: Kysely<Database>,
  hosts: readonly string[],
): Promise<ReadonlyMap<string, readonly NamedBy[]>> {
  const found = new Map<string, NamedBy[]>()
  for (let at = 0; at < hosts.length; at += CHUNK) {
    const rows = await db
      .selectFrom('rollout_hosts as h')
      .innerJoin('rollouts as r', 'r.id', 'h.rollout')
      .select(['h.host', 'h.rollout', 'r.action', 'r.revision', 'r.reverts', 'r.state', 'h.ended_as'])
      .where('h.host', 'in', hosts.slice(at, at + CHUNK))
      .where('r.action', 'in', ['apply', 'rollback'])
      .orderBy('r.started', 'desc')
      .orderBy('r.id', 'desc')
      .limit(MOST)
      .execute()
    for (const { host, rollout, action, revision, reverts, state, ended_as: endedAs } of rows) {
      const named: NamedBy = {
        rollout,
        revision,
        reverts,
        state,
        endedAs,
        action: action === 'apply' ? 'apply' : 'rollback',
      }
      const list = found.get(host)
      if (list) list.push(named)
      else found.set(host, [named])
    }
  }
  return found
}
