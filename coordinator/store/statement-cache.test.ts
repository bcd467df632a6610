import { describe, expect, it } from 'vitest'
import { openSqlite } from './sqlite.ts'
import { withStatementCache } from './statement-cache.ts'

describe('the cache of statements', () => {
  it('prepares a text once, keeps so many, and lets go of the one that was longest unused', () => {
    const sqlite = openSqlite(':memory:')
    const prepared: string[] = []
    const database = withStatementCache(
      {
        prepare: sql => {
          prepared.push(sql)
          return sqlite.prepare(sql)
        },
        close: () => sqlite.close(),
      },
      2,
    )
    for (const number of [1, 2, 1, 3, 1, 2]) {
      expect(database.prepare(`select ${number} as n`).all([])).toEqual([{ n: number }])
    }
    expect(prepared).toEqual([1, 2, 3, 2].map(number => `select ${number} as n`))
    database.close()
  })

  it('gives the columns that a table has by now', () => {
    const sqlite = openSqlite(':memory:')
    const database = withStatementCache(sqlite)
    sqlite.exec('create table t (a)')
    sqlite.exec('insert into t values (1)')
    expect(database.prepare('select * from t').all([])).toEqual([{ a: 1 }])
    sqlite.exec('alter table t add column b default 2')
    expect(database.prepare('select * from t').all([])).toEqual([{ a: 1, b: 2 }])
    database.close()
  })
})
