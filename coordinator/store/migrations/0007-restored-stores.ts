import type { Kysely } from 'kysely'
import { columns } from '../columns.ts'

/** What tells a store that was set back: how far each machine's journal was acknowledged. Of machines that are there nobody can say. */
export async function up(db: Kysely<unknown>): Promise<void> {
  const { int } = columns(db)
  await db.schema.alterTable('machines').addColumn('acknowledged', int).execute()
}
