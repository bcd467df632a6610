import { type Kysely, sql } from 'kysely'
import { isPostgres } from './columns.ts'
import * as initial from './migrations/0001-initial.ts'
import * as safeOperations from './migrations/0002-safe-operations.ts'
import * as clusters from './migrations/0003-clusters.ts'
import * as clusterActs from './migrations/0004-cluster-acts.ts'
import * as rollouts from './migrations/0005-rollouts.ts'
import * as audit from './migrations/0006-audit.ts'
import * as restoredStores from './migrations/0007-restored-stores.ts'
import * as setBackClusters from './migrations/0008-set-back-clusters.ts'

/** All migrations in order; only ever appended to. The schema's number is the count of them. */
export const MIGRATIONS: readonly ((db: Kysely<unknown>) => Promise<void>)[] = [
  initial.up,
  safeOperations.up,
  clusters.up,
  clusterActs.up,
  rollouts.up,
  audit.up,
  restoredStores.up,
  setBackClusters.up,
]

/** The schema of the store is newer than this program knows. */
export class NewerSchemaError extends Error {
  override readonly name = 'NewerSchemaError'
}

/** The number of the store's schema; 0: an empty store. */
export async function schemaNumber(db: Kysely<unknown>): Promise<number> {
  const tables = await db.introspection.getTables()
  if (!tables.some(table => table.name === 'schema_migrations')) return 0
  const { rows } = await sql<{ number: number }>`select max(number) as number from schema_migrations`.execute(
    db,
  )
  return Number(rows[0]?.number ?? 0)
}

/**
 * Brings the store to this program's schema in one transaction a migration: on both stores DDL is undone when a step
 * fails, and a second program that starts at the same time waits for the first. Says which numbers it ran.
 */
export async function migrate(
  db: Kysely<unknown>,
  now: Date,
  migrations: readonly ((db: Kysely<unknown>) => Promise<void>)[] = MIGRATIONS,
): Promise<number[]> {
  const ran: number[] = []
  await db.connection().execute(async connection => {
    for (let more = true; more; ) {
      await (isPostgres(connection)
        ? sql`begin`.execute(connection)
        : sql`begin immediate`.execute(connection))
      try {
        if (isPostgres(connection)) await sql`select pg_advisory_xact_lock(7302941)`.execute(connection)
        await sql`create table if not exists schema_migrations (number integer primary key, at bigint not null)`.execute(
          connection,
        )
        const current = await schemaNumber(connection)
        if (current > migrations.length) {
          throw new NewerSchemaError(
            `the store has schema ${current}, this program knows up to ${migrations.length}: run the program that wrote it, or restore the backup made before it was migrated`,
          )
        }
        const step = migrations[current]
        more = step !== undefined
        if (step) {
          await sql`insert into schema_migrations (number, at) values (${current + 1}, ${now.getTime()})`.execute(
            connection,
          )
          await step(connection)
          ran.push(current + 1)
        }
        await sql`commit`.execute(connection)
      } catch (error) {
        await sql`rollback`.execute(connection)
        throw error
      }
    }
  })
  return ran
}
