import { link, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, toBinary } from '@bufbuild/protobuf'
import { Kysely, SqliteDialect, sql } from 'kysely'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { recordEvent } from './events.ts'
import { newMachineRow } from './machines.ts'
import { MIGRATIONS, migrate, NewerSchemaError, schemaNumber } from './migrate.ts'
import { findOperation } from './operations.ts'
import { openSqlite } from './sqlite.ts'
import { isUniqueViolation, openStore } from './store.ts'

let folder: string
let count = 0
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'muster-store-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

const now = new Date()
const newPath = () => join(folder, `${count++}`, 'store.sqlite')
const event = { at: now, class: 'test', reason: 'because', actor: 'local' }

describe('openStore', () => {
  it('makes an empty store with every table, durable at each commit', async () => {
    const path = newPath()
    await using store = await openStore(path, now)
    await store.transact(tx => recordEvent(tx, event))
    expect(await store.db.selectFrom('events').selectAll().execute()).toMatchObject([
      { id: 1, class: 'test' },
    ])
    const read = async (name: string) => {
      const { rows } = await sql<Record<string, unknown>>`pragma ${sql.raw(name)}`.execute(store.db)
      return Object.values(rows[0] ?? {})[0]
    }
    expect(await read('journal_mode')).toBe('wal')
    expect(await read('synchronous')).toBe(2) // FULL
    expect(await read('foreign_keys')).toBe(1)
  })

  it('opens what another start wrote, and copies nothing when there is nothing to migrate', async () => {
    const path = newPath()
    {
      await using store = await openStore(path, now)
      await store.transact(tx => recordEvent(tx, event))
    }
    await using store = await openStore(path, now)
    expect(await store.db.selectFrom('events').selectAll().execute()).toHaveLength(1)
    expect((await readdir(join(path, '..'))).filter(name => name.includes('before-schema'))).toEqual([])
  })

  it('copies the old file beside the store before it migrates it, with everything in it', async () => {
    const path = newPath()
    {
      await using store = await openStore(path, now)
      await store.transact(tx => recordEvent(tx, event))
    }
    const next = async (db: Kysely<unknown>) => {
      await db.schema.dropTable('events').execute()
    }
    {
      await using store = await openStore(path, now, [...MIGRATIONS, next])
      await expect(store.db.selectFrom('events').selectAll().execute()).rejects.toThrow('no such table')
    }
    const copy = join(path, '..', `store-before-schema-${MIGRATIONS.length + 1}.sqlite`)
    // The older program is told of the very file that it can go on with.
    await expect(openStore(path, now)).rejects.toThrow(copy)
    await using before = await openStore(copy, now)
    expect(await before.db.selectFrom('events').selectAll().execute()).toHaveLength(1)
  })

  it('puts that copy under its name whole and in one step, for its owner alone', async () => {
    const path = newPath()
    {
      await using _ = await openStore(path, now)
    }
    const copy = join(path, '..', `store-before-schema-${MIGRATIONS.length + 1}.sqlite`)
    // Of an earlier try: what stands there is replaced, never written over.
    await writeFile(copy, 'earlier', { mode: 0o644 })
    await link(copy, `${copy}.kept`)
    await using _ = await openStore(path, now, [...MIGRATIONS, async () => {}])
    expect(await readFile(`${copy}.kept`, 'utf8')).toBe('earlier')
    expect((await stat(copy)).mode & 0o777).toBe(0o600)
    expect((await readFile(copy)).subarray(0, 15).toString()).toBe('SQLite format 3')
    expect((await readdir(join(path, '..'))).filter(name => name.endsWith('.partial'))).toEqual([])
  })

  it('refuses a store with a newer schema, and names the copy that was made before it', async () => {
    const path = newPath()
    {
      await using store = await openStore(path, now)
      await sql`insert into schema_migrations (number, at) values (${MIGRATIONS.length + 1}, 0)`.execute(
        store.db,
      )
    }
    await expect(openStore(path, now)).rejects.toThrow('restore a backup made with this version')
    const copy = join(path, '..', `store-before-schema-${MIGRATIONS.length + 1}.sqlite`)
    openSqlite(copy).close()
    await expect(openStore(path, now)).rejects.toThrow(NewerSchemaError)
    await expect(openStore(path, now)).rejects.toThrow(copy)
  })
})

describe('migrate', () => {
  const openRaw = () => {
    const sqlite = openSqlite(':memory:')
    return new Kysely<unknown>({ dialect: new SqliteDialect({ database: sqlite }) })
  }
  const step = (name: string) => async (db: Kysely<unknown>) => {
    await db.schema.createTable(name).addColumn('id', 'integer').execute()
  }

  it('runs what is missing, once, in order', async () => {
    const db = openRaw()
    expect(await migrate(db, now, [step('one')])).toEqual([1])
    expect(await migrate(db, now, [step('one'), step('two')])).toEqual([2])
    expect(await migrate(db, now, [step('one'), step('two')])).toEqual([])
    expect(await schemaNumber(db)).toBe(2)
    await db.destroy()
  })

  it('undoes a step that fails, and all of it', async () => {
    const db = openRaw()
    const failing = async (db: Kysely<unknown>) => {
      await step('half')(db)
      throw new Error('in the middle')
    }
    await expect(migrate(db, now, [step('one'), failing])).rejects.toThrow('in the middle')
    expect(await schemaNumber(db)).toBe(1)
    const tables = await db.introspection.getTables()
    expect(tables.map(table => table.name)).not.toContain('half')
    await db.destroy()
  })

  it('brings a store of schema 1 to what safe operations need, with the system ids that its facts tell', async () => {
    const path = newPath()
    const told = toBinary(FactsSchema, create(FactsSchema, { system: { machineId: 'c'.repeat(32) } }))
    {
      await using store = await openStore(path, now, MIGRATIONS.slice(0, 1))
      const machine = (id: string) => {
        const row = newMachineRow({ id, publicKey: Buffer.from(id), state: 'active', nowMs: 1, address: '' })
        const { machine_id, held_reason, held_since, quarantined, node_status, acknowledged, ...old } = row
        const later = [machine_id, held_reason, held_since, quarantined, node_status, acknowledged]
        return later.length > 0 ? old : row
      }
      await store.db.insertInto('machines').values(machine('m1')).execute()
      await store.db.insertInto('machines').values(machine('m2')).execute()
      await store.db
        .insertInto('facts')
        .values([
          { machine: 'm1', digest: 'a', at: 1, facts: Buffer.from('garbage') },
          { machine: 'm1', digest: 'b', at: 2, facts: told },
          { machine: 'm2', digest: 'c', at: 1, facts: Buffer.from([255]) },
        ])
        .execute()
      const operation = { id: 'op', machine: 'm1', host: '', revision: 3, manifest_digest: '', ordered: 1 }
      const rest = { ordered_by: '', expires: 2, phase: 0, outcome_class: 0, delivered: null, ended: null }
      await store.db
        .insertInto('operations')
        .values({ ...operation, ...rest, outcome: null })
        .execute()
    }
    await using store = await openStore(path, now)
    // Of what was acknowledged to machines that are there already nobody can say.
    expect(
      await store.db
        .selectFrom('machines')
        .select(['id', 'machine_id', 'acknowledged'])
        .orderBy('id')
        .execute(),
    ).toEqual([
      { id: 'm1', machine_id: 'c'.repeat(32), acknowledged: null },
      { id: 'm2', machine_id: '', acknowledged: null },
    ])
    expect(await findOperation(store.db, 'op')).toMatchObject({
      action: 'apply',
      order_action: null,
      not_before: 0,
      confirmed: null,
      retry_of: '',
    })
  })

  it('never runs an older program on a newer schema', async () => {
    const db = openRaw()
    await migrate(db, now, [step('one'), step('two')])
    await expect(migrate(db, now, [step('one')])).rejects.toThrow(NewerSchemaError)
    await db.destroy()
  })
})

describe('transact', () => {
  it('writes all of it or nothing', async () => {
    await using store = await openStore(newPath(), now)
    const work = store.transact(async tx => {
      await recordEvent(tx, event)
      throw new Error('after the first row')
    })
    await expect(work).rejects.toThrow('after the first row')
    expect(await store.db.selectFrom('events').selectAll().execute()).toEqual([])
  })

  it('refuses the store itself and a second transaction inside one, instead of waiting for ever', async () => {
    await using store = await openStore(newPath(), now)
    const refusal = 'store used inside its own transaction'
    await expect(store.transact(() => store.db.selectFrom('events').selectAll().execute())).rejects.toThrow(
      refusal,
    )
    await expect(store.transact(() => store.transact(async () => {}))).rejects.toThrow(refusal)
    await expect(store.transact(() => store.copyTo(`${store.path}.copy`))).rejects.toThrow(refusal)
  })

  it('takes one after the other: what reads, adds and writes loses nothing', async () => {
    await using store = await openStore(newPath(), now)
    await store.db.insertInto('meta').values({ key: 'n', value: '0' }).execute()
    const add = () =>
      store.transact(async tx => {
        const { value } = await tx.selectFrom('meta').selectAll().executeTakeFirstOrThrow()
        await tx
          .updateTable('meta')
          .set({ value: String(Number(value) + 1) })
          .execute()
      })
    await Promise.all(Array.from({ length: 8 }, add))
    expect(await store.db.selectFrom('meta').selectAll().execute()).toEqual([{ key: 'n', value: '8' }])
  })

  it('tells a key that exists already from other errors', async () => {
    await using store = await openStore(newPath(), now)
    const insert = () => store.db.insertInto('meta').values({ key: 'a', value: '' }).execute()
    await insert()
    const error = await insert().catch((error: unknown) => error)
    expect(isUniqueViolation(error)).toBe(true)
    expect(isUniqueViolation(new Error('other'))).toBe(false)
  })
})

describe('copyTo', () => {
  it('writes a whole copy while the store is used', async () => {
    await using store = await openStore(newPath(), now)
    await store.transact(tx => recordEvent(tx, event))
    const target = `${store.path}.copy`
    await Promise.all([store.copyTo(target), store.transact(tx => recordEvent(tx, event))])
    await using copy = await openStore(target, now)
    expect((await copy.db.selectFrom('events').selectAll().execute()).length).toBeGreaterThanOrEqual(1)
  })
})
