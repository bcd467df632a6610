import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { sql } from 'kysely'
import { expect, it } from 'vitest'
import { openStore } from './store.ts'

const TIME = /^(at|since|created|expires|published|ordered|received|made|.*_(at|seen|after|before))$/

it('N13: every time in the store is an integer, and no query compares it with a text of the database', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'muster-times-'))
  await using store = await openStore(join(folder, 'store.sqlite'), new Date())
  const tables = await sql<{ name: string }>`select name from sqlite_master where type = 'table'`.execute(
    store.db,
  )
  const seen: string[] = []
  for (const { name: table } of tables.rows) {
    const columns = await sql<{ name: string; type: string }>`pragma table_info(${sql.raw(table)})`.execute(
      store.db,
    )
    for (const { name, type } of columns.rows.filter(column => TIME.test(column.name))) {
      seen.push(`${table}.${name}`)
      expect(type.toLowerCase(), `${table}.${name}`).toMatch(/int/)
    }
  }
  expect(seen).toEqual(expect.arrayContaining(['machines.last_seen', 'tokens.expires', 'events.at']))
  for (const file of await readdir(import.meta.dirname, { recursive: true })) {
    if (!file.endsWith('.ts') || file.endsWith('.test.ts')) continue
    const text = await readFile(join(import.meta.dirname, file), 'utf8')
    expect(text, file).not.toMatch(/datetime\(|strftime\(|current_timestamp|julianday/i)
  }
  await rm(folder, { recursive: true, force: true })
})
