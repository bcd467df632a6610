import type { Insertable, Kysely, Selectable, Transaction } from 'kysely'
import { MOVED_NOBODY } from '../rollouts/plan/rollout-snapshot.ts'
import type {
  RolloutGrantsTable,
  RolloutHostsTable,
  RolloutOverridesTable,
  RolloutsTable,
} from './rollout-tables.ts'
import type { Database } from './tables.ts'

export type RolloutRow = Selectable<RolloutsTable>
export type RolloutHostRow = Selectable<RolloutHostsTable>
export type RolloutGrantRow = Selectable<RolloutGrantsTable>
export type RolloutOverrideRow = Selectable<RolloutOverridesTable>

/** Rows that go into one statement; both stores bound the parameters of a statement. */
const CHUNK = 500

/** States in which a rollout is not over. */
export const OPEN_STATES = ['running', 'paused', 'ending'] as const
export type OpenState = (typeof OPEN_STATES)[number]
export const ENDED_STATES = ['succeeded', 'failed', 'aborted'] as const
export type EndedState = (typeof ENDED_STATES)[number]

/** Rollouts that are not over at once; each is looked at in every run. */
export const MOST_OPEN = 200

export async function insertRollout(
  tx: Transaction<Database>,
  row: Insertable<RolloutsTable>,
  hosts: readonly Insertable<RolloutHostsTable>[],
): Promise<void> {
  await tx.insertInto('rollouts').values(row).execute()
  for (let at = 0; at < hosts.length; at += CHUNK) {
    await tx
      .insertInto('rollout_hosts')
      .values(hosts.slice(at, at + CHUNK))
      .execute()
  }
}

export async function openRollouts(db: Kysely<Database>): Promise<RolloutRow[]> {
  return await db
    .selectFrom('rollouts')
    .selectAll()
    .where('state', 'in', [...OPEN_STATES])
    .orderBy('started')
    .orderBy('id')
    .limit(MOST_OPEN)
    .execute()
}

export async function countOpenRollouts(db: Kysely<Database>): Promise<number> {
  const row = await db
    .selectFrom('rollouts')
    .select(({ fn }) => fn.countAll<number>().as('count'))
    .where('state', 'in', [...OPEN_STATES])
    .executeTakeFirstOrThrow()
  return Number(row.count)
}

export async function findRollout(db: Kysely<Database>, id: string): Promise<RolloutRow | undefined> {
  return await db.selectFrom('rollouts').selectAll().where('id', '=', id).executeTakeFirst()
}

export async function findRolloutByRequest(
  db: Kysely<Database>,
  request: string,
): Promise<RolloutRow | undefined> {
  return await db.selectFrom('rollouts').selectAll().where('request', '=', request).executeTakeFirst()
}

/** Rollouts whose id begins so; at most two, since one tells enough and two tell that it is not unambiguous. */
export async function rolloutsByPrefix(db: Kysely<Database>, prefix: string): Promise<RolloutRow[]> {
  return await db
    .selectFrom('rollouts')
    .selectAll()
    .where('id', '>=', prefix)
    .where('id', '<', `${prefix}\uffff`)
    .orderBy('id')
    .limit(2)
    .execute()
}

/** Newest first. */
export async function listRolloutRows(
  db: Kysely<Database>,
  input: { readonly limit: number; readonly open: boolean },
): Promise<RolloutRow[]> {
  let query = db.selectFrom('rollouts').selectAll()
  if (input.open) query = query.where('state', 'in', [...OPEN_STATES])
  return await query.orderBy('started', 'desc').orderBy('id', 'desc').limit(input.limit).execute()
}

/** States of the rollouts named, for those that wait for them: `MOVED_NOBODY` where one has succeeded and left all its hosts behind. */
export async function statesOfRollouts(
  db: Kysely<Database>,
  ids: readonly string[],
): Promise<ReadonlyMap<string, string>> {
  if (ids.length === 0) return new Map()
  const rows = await db.selectFrom('rollouts').select(['id', 'state']).where('id', 'in', ids).execute()
  const over = rows.flatMap(({ id, state }) => (state === 'succeeded' ? [id] : []))
  const ends =
    over.length === 0
      ? []
      : await db
          .selectFrom('rollout_hosts')
          .select(['rollout', 'ended_as'])
          .where('rollout', 'in', over)
          .where('ended_as', 'in', ['done', 'left'])
          .distinct()
          .execute()
  const has = (rollout: string, how: string) =>
    ends.some(end => end.rollout === rollout && end.ended_as === how)
  return new Map(
    rows.map(({ id, state }) => [id, has(id, 'left') && !has(id, 'done') ? MOVED_NOBODY : state]),
  )
}

/** Members of rollouts, in the order of their turns. */
export async function hostsOfRollouts(
  db: Kysely<Database>,
  rollouts: readonly string[],
): Promise<RolloutHostRow[]> {
  if (rollouts.length === 0) return []
  return await db
    .selectFrom('rollout_hosts')
    .selectAll()
    .where('rollout', 'in', rollouts)
    .orderBy('rollout')
    .orderBy('position')
    .execute()
}

/** Grants of rollouts, oldest first. */
export async function grantsOfRollouts(
  db: Kysely<Database>,
  rollouts: readonly string[],
): Promise<RolloutGrantRow[]> {
  if (rollouts.length === 0) return []
  return await db
    .selectFrom('rollout_grants')
    .selectAll()
    .where('rollout', 'in', rollouts)
    .orderBy('id')
    .execute()
}

/** The grant that gave an operation or an act; undefined: no rollout did. */
export async function grantOfOperation(
  db: Kysely<Database>,
  operation: string,
): Promise<RolloutGrantRow | undefined> {
  return await db
    .selectFrom('rollout_grants')
    .selectAll()
    .where('operation', '=', operation)
    .executeTakeFirst()
}

/** By operation the rollout that gave it, for whoever carries it out; those that no rollout gave are missing. */
export async function rolloutsOfOperations(
  db: Kysely<Database>,
  operations: readonly string[],
): Promise<ReadonlyMap<string, Pick<RolloutRow, 'id' | 'action' | 'revision'>>> {
  const found = new Map<string, Pick<RolloutRow, 'id' | 'action' | 'revision'>>()
  for (let at = 0; at < operations.length; at += CHUNK) {
    const rows = await db
      .selectFrom('rollout_grants')
      .innerJoin('rollouts', 'rollouts.id', 'rollout_grants.rollout')
      .select(['rollout_grants.operation', 'rollouts.id', 'rollouts.action', 'rollouts.revision'])
      .where('rollout_grants.operation', 'in', operations.slice(at, at + CHUNK))
      .execute()
    for (const { operation, ...rollout } of rows) found.set(operation, rollout)
  }
  return found
}

export async function overridesOfRollouts(
  db: Kysely<Database>,
  rollouts: readonly string[],
): Promise<RolloutOverrideRow[]> {
  if (rollouts.length === 0) return []
  return await db.selectFrom('rollout_overrides').selectAll().where('rollout', 'in', rollouts).execute()
}

/**
 * Changes a rollout, when nobody else did since it was read: what was decided of an older state is not written. Says
 * whether it was.
 */
export async function changeRollout(
  tx: Transaction<Database>,
  row: Pick<RolloutRow, 'id' | 'generation'>,
  change: Partial<Pick<RolloutRow, 'state' | 'ends_as' | 'reason' | 'ended'>>,
): Promise<boolean> {
  const { numUpdatedRows } = await tx
    .updateTable('rollouts')
    .set({ ...change, generation: row.generation + 1 })
    .where('id', '=', row.id)
    .where('generation', '=', row.generation)
    .executeTakeFirst()
  return numUpdatedRows === 1n
}

/** Makes every decision that was thought before this moment void, in the transaction that changes what it rests on. */
export async function touchOpenRollouts(tx: Transaction<Database>): Promise<void> {
  await tx
    .updateTable('rollouts')
    .set(({ eb }) => ({ generation: eb('generation', '+', 1) }))
    .where('state', 'in', [...OPEN_STATES])
    .execute()
}

export async function insertGrant(
  tx: Transaction<Database>,
  grant: Omit<RolloutGrantRow, 'id' | 'closed' | 'outcome' | 'reason'>,
): Promise<void> {
  await tx
    .insertInto('rollout_grants')
    .values({ ...grant, closed: null, outcome: '', reason: '' })
    .execute()
}

/** Closes a grant that is under way; one that is closed stays as it is. */
export async function closeGrant(
  tx: Transaction<Database>,
  id: number,
  end: { readonly outcome: string; readonly reason: string; readonly nowMs: number },
): Promise<void> {
  await tx
    .updateTable('rollout_grants')
    .set({ closed: end.nowMs, outcome: end.outcome, reason: end.reason })
    .where('id', '=', id)
    .where('closed', 'is', null)
    .execute()
}

export async function writeHostRecord(
  tx: Transaction<Database>,
  row: Pick<RolloutHostRow, 'rollout' | 'host'>,
  change: Partial<Pick<RolloutHostRow, 'cluster' | 'ended_as' | 'waits'>>,
): Promise<void> {
  if (Object.keys(change).length === 0) return
  await tx
    .updateTable('rollout_hosts')
    .set(change)
    .where('rollout', '=', row.rollout)
    .where('host', '=', row.host)
    .execute()
}

export async function putOverride(tx: Transaction<Database>, row: RolloutOverrideRow): Promise<void> {
  const { rollout, host, gate, ...rest } = row
  await tx
    .insertInto('rollout_overrides')
    .values({ rollout, host, gate, ...rest })
    .onConflict(conflict => conflict.columns(['rollout', 'host', 'gate']).doUpdateSet(rest))
    .execute()
}

export interface TouchingRollout {
  readonly rollout: string
  readonly host: string
  readonly cluster: string
  readonly started: number
}

/** Rollouts that are not over and have one of these hosts, or touch one of these clusters. */
export async function rolloutsTouching(
  db: Kysely<Database>,
  hosts: readonly string[],
  clusters: readonly string[],
): Promise<TouchingRollout[]> {
  const found: TouchingRollout[] = []
  const open = db
    .selectFrom('rollout_hosts')
    .innerJoin('rollouts', 'rollouts.id', 'rollout_hosts.rollout')
    .select(['rollout_hosts.rollout', 'rollout_hosts.host', 'rollout_hosts.cluster', 'rollouts.started'])
    .where('rollouts.state', 'in', [...OPEN_STATES])
  for (let at = 0; at < hosts.length; at += CHUNK) {
    found.push(...(await open.where('rollout_hosts.host', 'in', hosts.slice(at, at + CHUNK)).execute()))
  }
  for (let at = 0; at < clusters.length; at += CHUNK) {
    found.push(...(await open.where('rollout_hosts.cluster', 'in', clusters.slice(at, at + CHUNK)).execute()))
  }
  return found
}
