import type { Kysely } from 'kysely'
import { columns } from '../columns.ts'

/** Which servers are of the datastore that there is since it was set back: those that were minted for since then. */
export async function up(db: Kysely<unknown>): Promise<void> {
  const { int } = columns(db)
  await db.schema
    .alterTable('clusters')
    .addColumn('set_back', int, c => c.notNull().defaultTo(0))
    .execute()
  await db.schema
    .alterTable('cluster_attempts')
    .addColumn('minted', int, c => c.notNull().defaultTo(0))
    .execute()
}
