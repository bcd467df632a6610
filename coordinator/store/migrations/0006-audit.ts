import { type Kysely, sql } from 'kysely'
import { hashEvent } from '../../../shared/audit/event-chain.ts'
import { columns } from '../columns.ts'

const PAGE = 1_000

interface OldEvent {
  readonly id: number
  readonly at: number
  readonly class: string
  readonly machine: string
  readonly host: string
  readonly reason: string
  readonly actor: string
}

/** Chains the events: each holds the hash of the one before it. Those that are there already are chained as they stand. */
export async function up(db: Kysely<unknown>): Promise<void> {
  const { text } = columns(db)
  for (const column of ['previous', 'hash']) {
    await db.schema
      .alterTable('events')
      .addColumn(column, text, c => c.notNull().defaultTo(''))
      .execute()
  }
  let previous = ''
  for (let after = 0; ; ) {
    const { rows } = await sql<OldEvent>`
      select id, at, class, machine, host, reason, actor from events where id > ${after} order by id limit ${PAGE}`.execute(
      db,
    )
    for (const row of rows) {
      const id = Number(row.id)
      const hash = hashEvent({ ...row, id, at: Number(row.at), previous })
      await sql`update events set previous = ${previous}, hash = ${hash} where id = ${id}`.execute(db)
      previous = hash
      after = id
    }
    if (rows.length < PAGE) return
  }
}
