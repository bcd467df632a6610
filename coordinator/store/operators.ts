import type { Kysely, Selectable, Transaction } from 'kysely'
import type { Database, OperatorsTable } from './tables.ts'

export type OperatorRow = Selectable<OperatorsTable>

export function allOperators(db: Kysely<Database>): Promise<OperatorRow[]> {
  return db.selectFrom('operators').selectAll().orderBy('name').execute()
}

export function findOperator(db: Kysely<Database>, name: string): Promise<OperatorRow | undefined> {
  return db.selectFrom('operators').selectAll().where('name', '=', name).executeTakeFirst()
}

export function findOperatorByKey(db: Kysely<Database>, id: string): Promise<OperatorRow | undefined> {
  return db.selectFrom('operators').selectAll().where('id', '=', id).executeTakeFirst()
}

/** Writes an operator; one of the same name that was removed, or has the same key, is replaced. */
export async function putOperator(tx: Transaction<Database>, row: OperatorRow): Promise<void> {
  const { name: _, ...rest } = row
  await tx
    .insertInto('operators')
    .values(row)
    .onConflict(conflict => conflict.column('name').doUpdateSet(rest))
    .execute()
}

export async function markOperatorRemoved(tx: Transaction<Database>, name: string): Promise<void> {
  await tx.updateTable('operators').set({ removed: 1 }).where('name', '=', name).execute()
}

/** How many operators hang on a certificate of this authority that is still good. */
export async function countOperatorsOf(db: Kysely<Database>, issuer: string, nowMs: number): Promise<number> {
  const row = await db
    .selectFrom('operators')
    .select(({ fn }) => fn.countAll<number>().as('count'))
    .where('removed', '=', 0)
    .where('issuer', '=', issuer)
    .where('not_after', '>', nowMs)
    .executeTakeFirstOrThrow()
  return Number(row.count)
}
