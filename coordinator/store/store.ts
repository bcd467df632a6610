import { chmod, open, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { Kysely, SqliteDialect, type Transaction } from 'kysely'
import { syncDirectory, syncFile } from '../../shared/durable-file.ts'
import { hasCode } from '../../shared/errors.ts'
import { makeDirectories } from '../../shared/make-directories.ts'
import { MIGRATIONS, migrate, NewerSchemaError, schemaNumber } from './migrate.ts'
import { openSqlite, type SqliteDatabase } from './sqlite.ts'
import { withStatementCache } from './statement-cache.ts'
import type { Database } from './tables.ts'
import { Transactor } from './transactor.ts'

/** The coordinator's memory. All writes that belong together go through `transact`. */
export interface Store extends AsyncDisposable {
  /** For single statements outside any transaction. */
  readonly db: Kysely<Database>
  /**
   * Runs `work` in one transaction. Inside, only `tx` may be used: no `db`, no nested `transact`, no network, timers,
   * child processes or key generation; a work that does is refused. `work` may run again; it changes nothing but rows.
   */
  transact<T>(work: (tx: Transaction<Database>) => Promise<T>): Promise<T>
  /**
   * The same, for what comes in crowds: the commit may be shared with works of other keys. The key names what `work` reads
   * of the coordinator's memory and its caller changes there afterwards, since of one commit none sees what another leaves.
   */
  transactTogether<T>(key: string, work: (tx: Transaction<Database>) => Promise<T>): Promise<T>
  /** Writes a consistent copy of the store to a file while it runs. */
  copyTo(path: string): Promise<void>
  readonly path: string
}

/** The name a store is copied to before it is brought to schema N. */
const backupName = (schema: number) => `store-before-schema-${schema}.sqlite`

/**
 * Opens the embedded store, makes it at first use, brings its schema up to date. Before a migration the old file is
 * copied beside it; a store with a newer schema is refused, naming that copy.
 */
export async function openStore(path: string, now: Date, migrations = MIGRATIONS): Promise<Store> {
  await makeDirectories(dirname(path), 0o700)
  await makePrivateFile(path)
  const sqlite = openSqlite(path)
  try {
    sqlite.pragma('journal_mode = WAL')
    // Explicit: better-sqlite3 is built so that a WAL file would run NORMAL and could lose the last commits.
    sqlite.pragma('synchronous = FULL')
    // Pages that every enrolment writes again are carried into the file once for 16 MiB and not four times.
    sqlite.pragma('wal_autocheckpoint = 4000')
    sqlite.pragma('foreign_keys = ON')
    const base = new Kysely<Database>({
      dialect: new SqliteDialect({ database: withStatementCache(sqlite) }),
    })
    await bringUpToDate(base, sqlite, path, now, migrations)
    return storeOver(base, path, target => sqlite.backup(target).then(() => undefined))
  } catch (error) {
    sqlite.close()
    throw error
  }
}

/** SQLite itself would let everybody read it; what it keeps beside it takes the mode of the store. */
async function makePrivateFile(path: string): Promise<void> {
  const handle = await open(path, 'a', 0o600)
  await handle.close()
  await chmod(path, 0o600)
}

async function bringUpToDate(
  base: Kysely<Database>,
  sqlite: SqliteDatabase,
  path: string,
  now: Date,
  migrations: typeof MIGRATIONS,
): Promise<void> {
  // Migrations work on a handle without our tables' types.
  const untyped = base as unknown as Kysely<unknown>
  const before = await schemaNumber(untyped)
  if (before > migrations.length) {
    // The copy that this program can run is the one made at the first step beyond what it knows.
    const copy = join(dirname(path), backupName(migrations.length + 1))
    const cure = (await exists(copy)) ? `put ${copy} in its place` : 'restore a backup made with this version'
    throw new NewerSchemaError(
      `${path} has schema ${before}, this program knows up to ${migrations.length}: run the newer program, or ${cure}`,
    )
  }
  if (before > 0 && before < migrations.length) {
    await copyDurably(sqlite, join(dirname(path), backupName(before + 1)))
  }
  await migrate(untyped, now, migrations)
}

/** Whole on the disk before it has its name: what follows is a migration that only this copy undoes. */
async function copyDurably(sqlite: SqliteDatabase, copy: string): Promise<void> {
  const partial = `${copy}.partial`
  await rm(partial, { force: true })
  await makePrivateFile(partial)
  await sqlite.backup(partial)
  await syncFile(partial)
  await rename(partial, copy)
  await syncDirectory(dirname(copy))
}

async function exists(path: string): Promise<boolean> {
  try {
    await stat(path)
    return true
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false
    throw error
  }
}

function storeOver(base: Kysely<Database>, path: string, copyTo: (target: string) => Promise<void>): Store {
  const transactor = new Transactor(base)
  return {
    db: base,
    path,
    transact: work => transactor.transact(work),
    transactTogether: (key, work) => transactor.transact(work, key),
    copyTo: async target => {
      await copyTo(target)
      await stat(target)
    },
    [Symbol.asyncDispose]: () => base.destroy(),
  }
}

/** Whether an insert failed because its key is there already, on either store. */
export function isUniqueViolation(error: unknown): boolean {
  return (
    hasCode(error, 'SQLITE_CONSTRAINT_PRIMARYKEY') ||
    hasCode(error, 'SQLITE_CONSTRAINT_UNIQUE') ||
    hasCode(error, '23505')
  )
}
