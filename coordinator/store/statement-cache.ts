import type { SqliteDatabase } from 'kysely'

/** Texts differ by the lengths of their lists too, so that there is no end of them. */
const MAX_STATEMENTS = 128

/**
 * The same database, which keeps the statements it prepared: an enrolment runs a dozen, always the same. Only for
 * statements that are run to their end before the next begins, which one connection without cursors does by itself.
 */
export function withStatementCache(database: SqliteDatabase, most: number = MAX_STATEMENTS): SqliteDatabase {
  const kept = new Map<string, ReturnType<SqliteDatabase['prepare']>>()
  return {
    prepare(sql) {
      const statement = kept.get(sql) ?? database.prepare(sql)
      // Moved to the end: the map's order is the order of use.
      kept.delete(sql)
      kept.set(sql, statement)
      for (const oldest of kept.keys()) {
        if (kept.size <= most) break
        kept.delete(oldest)
      }
      return statement
    },
    close: () => {
      kept.clear()
      database.close()
    },
  }
}
