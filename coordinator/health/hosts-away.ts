import type { Kysely } from 'kysely'
import { progressOf } from '../rollouts/plan/host-steps.ts'
import type { RolloutRecord } from '../rollouts/plan/rollout-record.ts'
import { type RolloutRows, readRecords } from '../rollouts/read-record.ts'
import { openRollouts } from '../store/rollouts.ts'
import type { Database } from '../store/tables.ts'

/**
 * Of these hosts those that a rollout which is not over has taken out of use and still works on. Not one that only waits for its turn, nor
 * one that has failed or is done in it, however long that rollout stands: a cordon of theirs is needed by nothing.
 */
export async function hostsAway(
  db: Kysely<Database>,
  hosts: readonly string[],
): Promise<ReadonlySet<string>> {
  const rollouts = hosts.length === 0 ? [] : await openRollouts(db)
  if (rollouts.length === 0) return new Set()
  const ids = rollouts.map(({ id }) => id)
  const members = await db
    .selectFrom('rollout_hosts')
    .selectAll()
    .where('host', 'in', hosts)
    .where('rollout', 'in', ids)
    .execute()
  const grants = await db
    .selectFrom('rollout_grants')
    .selectAll()
    .where('rollout', 'in', ids)
    .where('host', 'in', hosts)
    .orderBy('id')
    .execute()
  const away = rollouts.flatMap(rollout => {
    const of = <T extends { readonly rollout: string }>(rows: readonly T[]) =>
      rows.filter(row => row.rollout === rollout.id)
    const rows = { rollouts: [rollout], hosts: of(members), grants: of(grants), overrides: [] }
    return awayIn(rows)
  })
  return new Set(away)
}

/** Of a rollout that cannot be read nobody knows that it is done with a host. */
function awayIn(rows: RolloutRows): readonly string[] {
  let records: readonly RolloutRecord[]
  try {
    records = readRecords(rows)
  } catch {
    return rows.hosts.map(({ host }) => host)
  }
  return records.flatMap(record =>
    record.hosts.filter(host => progressOf(record, host).kind === 'moving').map(({ host }) => host),
  )
}
