import fc from 'fast-check'
import { Kysely, SqliteDialect, sql, type Transaction } from 'kysely'
import { describe, expect, it } from 'vitest'
import { openSqlite } from './sqlite.ts'
import type { Database } from './tables.ts'
import { Transactor } from './transactor.ts'

/** A store with one table of rows. */
async function openRows() {
  const sqlite = openSqlite(':memory:')
  const db = new Kysely<Database>({ dialect: new SqliteDialect({ database: sqlite }) })
  await sql`create table rows (name text primary key)`.execute(db)
  const rows = async () => {
    const { rows: found } = await sql<{ name: string }>`select name from rows order by rowid`.execute(db)
    return found.map(({ name }) => name)
  }
  return { sqlite, db, transactor: new Transactor(db), rows, [Symbol.asyncDispose]: () => db.destroy() }
}

const add = (name: string) => async (tx: Transaction<Database>) => {
  await sql`insert into rows (name) values (${name})`.execute(tx)
  return name
}

const turn = () => new Promise(resolve => setImmediate(resolve))

describe('transactions that share a commit', () => {
  it('are those with keys that differ; others have one of their own', async () => {
    await using store = await openRows()
    const began: string[] = []
    const watched = (name: string, key?: string) =>
      store.transactor.transact(async tx => {
        // The same transaction object is the same transaction.
        began.push(name)
        return { tx, name: await add(name)(tx) }
      }, key)
    const done = await Promise.all([
      watched('a', '1'),
      watched('b', '2'),
      watched('c'),
      watched('d', '1'),
      watched('e', '1'),
      watched('f', '2'),
    ])
    const groups = new Map<unknown, string[]>()
    for (const { tx, name } of done) groups.set(tx, [...(groups.get(tx) ?? []), name])
    expect([...groups.values()]).toEqual([['a', 'b'], ['c'], ['d'], ['e', 'f']])
    expect(began).toEqual(['a', 'b', 'c', 'd', 'e', 'f'])
    expect(await store.rows()).toEqual(['a', 'b', 'c', 'd', 'e', 'f'])
  })

  it('are at most thirty-two', async () => {
    await using store = await openRows()
    const transactions = await Promise.all(
      Array.from({ length: 80 }, (_, index) =>
        store.transactor.transact(async tx => {
          await add(`${index}`)(tx)
          return tx
        }, `${index}`),
      ),
    )
    expect(new Set(transactions).size).toBe(3)
    expect(await store.rows()).toHaveLength(80)
  })

  it('are all there or not at all, each by itself, in the order they came', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ key: fc.constantFrom(undefined, '1', '2', '3'), fails: fc.boolean() }), {
          maxLength: 12,
        }),
        async works => {
          await using store = await openRows()
          const outcomes = await Promise.allSettled(
            works.map(({ key, fails }, index) =>
              store.transactor.transact(async tx => {
                await add(`${index}`)(tx)
                if (fails) throw new Error(`${index} fails`)
                return index
              }, key),
            ),
          )
          const good = works.flatMap(({ fails }, index) => (fails ? [] : [`${index}`]))
          expect(await store.rows()).toEqual(good)
          expect(outcomes.map(({ status }) => status === 'rejected')).toEqual(works.map(({ fails }) => fails))
        },
      ),
      { numRuns: 60 },
    )
  })

  it('are not told that they are done before the commit, and all are told when there is none', async () => {
    await using store = await openRows()
    // A deferred constraint is looked at by the commit.
    store.sqlite.pragma('foreign_keys = ON')
    await sql`create table tied (name text references rows (name) deferrable initially deferred)`.execute(
      store.db,
    )
    const tie = async (tx: Transaction<Database>) => {
      await sql`insert into tied (name) values ('nobody')`.execute(tx)
    }
    const outcomes = await Promise.allSettled([
      store.transactor.transact(add('a'), '1'),
      store.transactor.transact(tie, '2'),
      store.transactor.transact(add('b')),
    ])
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'fulfilled'])
    expect(await store.rows()).toEqual(['b'])
  })

  it('let their callers take down what was committed before the next one begins', async () => {
    await using store = await openRows()
    const told: string[] = []
    const work = (name: string, key?: string) =>
      store.transactor
        .transact(async tx => {
          told.push(`works on ${name}`)
          await add(name)(tx)
        }, key)
        .then(async () => {
          for (let hop = 0; hop < 50; hop++) await Promise.resolve()
          told.push(`heard of ${name}`)
        })
    await Promise.all([work('a', '1'), work('b', '1'), work('c')])
    expect(told).toEqual(['a', 'b', 'c'].flatMap(name => [`works on ${name}`, `heard of ${name}`]))
  })
})

describe('a transaction that waits for something else than its own statements', () => {
  const refusal = 'store used inside its own transaction'

  it('is refused and leaves nothing; those beside it are not touched by it', async () => {
    await using store = await openRows()
    const wait = async (tx: Transaction<Database>) => {
      await add('half')(tx)
      await turn()
      await turn()
    }
    const outcomes = await Promise.allSettled([
      store.transactor.transact(add('a'), '1'),
      store.transactor.transact(wait, '2'),
      store.transactor.transact(add('b'), '3'),
      store.transactor.transact(wait),
    ])
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'rejected'])
    expect(outcomes[1]).toMatchObject({ reason: { message: expect.stringContaining(refusal) } })
    expect(await store.rows()).toEqual(['a', 'b'])
  })

  it('can write nothing any more when it goes on afterwards', async () => {
    await using store = await openRows()
    let later: unknown
    const work = store.transactor.transact(async tx => {
      await turn()
      await turn()
      later = await add('late')(tx).catch((error: unknown) => error)
    })
    await expect(work).rejects.toThrow(refusal)
    await expect.poll(() => later).toBeInstanceOf(Error)
    expect(await store.rows()).toEqual([])
  })

  it('is refused with the transaction that it began inside, of which nothing is written', async () => {
    await using store = await openRows()
    let inner: Promise<unknown> | undefined
    const outer = store.transactor.transact(async () => {
      inner = store.transactor.transact(add('inner'))
      await inner
    })
    await expect(outer).rejects.toThrow(refusal)
    await expect(inner).rejects.toThrow(refusal)
    expect(await store.rows()).toEqual([])
    await store.transactor.transact(add('after'))
    expect(await store.rows()).toEqual(['after'])
  })
})
