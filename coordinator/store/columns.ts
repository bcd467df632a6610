import { type ColumnDefinitionBuilder, type Kysely, PostgresAdapter, sql } from 'kysely'

/** Whether a handle speaks to PostgreSQL; everything else here is SQLite. */
export function isPostgres(db: Kysely<unknown>): boolean {
  return db.getExecutor().adapter instanceof PostgresAdapter
}

/** The types of our columns in the dialect of the store. Numbers are 64 bit on both. */
export function columns(db: Kysely<unknown>) {
  const postgres = isPostgres(db)
  return {
    text: sql`text`,
    int: postgres ? sql`bigint` : sql`integer`,
    bytes: postgres ? sql`bytea` : sql`blob`,
    /** A number the store counts up by itself. */
    idColumn: {
      type: postgres ? sql`bigint` : sql`integer`,
      build: (c: ColumnDefinitionBuilder) =>
        postgres ? c.primaryKey().generatedByDefaultAsIdentity() : c.primaryKey().autoIncrement(),
    },
  }
}
