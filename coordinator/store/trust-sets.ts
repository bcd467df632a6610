import type { Kysely, Selectable, Transaction } from 'kysely'
import type { Database, TrustSetsTable } from './tables.ts'

export type TrustSetRow = Selectable<TrustSetsTable>

/** All trust sets from the first, in order. They are few: one for each change of keys. */
export function allTrustSets(db: Kysely<Database>): Promise<TrustSetRow[]> {
  return db.selectFrom('trust_sets').selectAll().orderBy('number').execute()
}

export async function insertTrustSet(
  tx: Transaction<Database>,
  row: { readonly number: number; readonly digest: string; readonly envelope: Uint8Array; readonly at: number },
): Promise<void> {
  await tx.insertInto('trust_sets').values(row).execute()
}
