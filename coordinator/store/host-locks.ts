import type { Kysely, Selectable, Transaction } from 'kysely'
import type { HostLocksTable, HostPinsTable } from './rollout-tables.ts'
import type { Database } from './tables.ts'

export type HostLockRow = Selectable<HostLocksTable>
export type HostPinRow = Selectable<HostPinsTable>

/** Locks and pins of one fleet; a host has at most one of each. */
export const MOST_LOCKS = 10_000

export async function allLocks(db: Kysely<Database>): Promise<HostLockRow[]> {
  return await db.selectFrom('host_locks').selectAll().orderBy('host').limit(MOST_LOCKS).execute()
}

export async function findLock(db: Kysely<Database>, host: string): Promise<HostLockRow | undefined> {
  return await db.selectFrom('host_locks').selectAll().where('host', '=', host).executeTakeFirst()
}

/** Locks a host. One that is locked keeps its lock; the answer is false. */
export async function insertLock(tx: Transaction<Database>, row: HostLockRow): Promise<boolean> {
  const { numInsertedOrUpdatedRows } = await tx
    .insertInto('host_locks')
    .values(row)
    .onConflict(conflict => conflict.column('host').doNothing())
    .executeTakeFirst()
  return numInsertedOrUpdatedRows === 1n
}

export async function deleteLock(tx: Transaction<Database>, host: string): Promise<boolean> {
  const { numDeletedRows } = await tx.deleteFrom('host_locks').where('host', '=', host).executeTakeFirst()
  return numDeletedRows === 1n
}

/** Pins that count at this time, by host. */
export async function pinsAt(db: Kysely<Database>, nowMs: number): Promise<HostPinRow[]> {
  return await db
    .selectFrom('host_pins')
    .selectAll()
    .where('until_at', '>', nowMs)
    .orderBy('host')
    .limit(MOST_LOCKS)
    .execute()
}

/** Pins a host; a pin it had is replaced. */
export async function putPin(tx: Transaction<Database>, row: HostPinRow): Promise<void> {
  const { host, ...rest } = row
  await tx
    .insertInto('host_pins')
    .values({ host, ...rest })
    .onConflict(conflict => conflict.column('host').doUpdateSet(rest))
    .execute()
}

export async function deletePin(tx: Transaction<Database>, host: string): Promise<boolean> {
  const { numDeletedRows } = await tx.deleteFrom('host_pins').where('host', '=', host).executeTakeFirst()
  return numDeletedRows === 1n
}
