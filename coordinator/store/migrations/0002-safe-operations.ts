import { fromBinary } from '@bufbuild/protobuf'
import { type Kysely, sql } from 'kysely'
import { FactsSchema } from '../../../shared/gen/muster/v1/facts_pb.ts'
import { columns } from '../columns.ts'

const PAGE = 200

/** Orders other than "go to a revision", confirmations, signed outcomes, and what nodes hold on to. */
export async function up(db: Kysely<unknown>): Promise<void> {
  const { text, int, bytes } = columns(db)

  const operations = [
    ['action', text, "'apply'"],
    ['order_action', bytes, undefined],
    ['rollback_to', text, "''"],
    ['rollback_before', int, '0'],
    ['activated_by', text, "''"],
    ['confirmed', int, undefined],
    ['plan', bytes, undefined],
    ['signed_outcome', bytes, undefined],
    ['badly_signed', int, '0'],
    ['not_before', int, '0'],
    ['retry_of', text, "''"],
  ] as const
  for (const [name, type, fallback] of operations) {
    await db.schema
      .alterTable('operations')
      .addColumn(name, type, c => (fallback === undefined ? c : c.notNull().defaultTo(sql.raw(fallback))))
      .execute()
  }

  const machines = [
    ['machine_id', text, "''"],
    ['held_reason', text, "''"],
    ['held_since', int, undefined],
    ['quarantined', int, '0'],
    ['node_status', bytes, undefined],
  ] as const
  for (const [name, type, fallback] of machines) {
    await db.schema
      .alterTable('machines')
      .addColumn(name, type, c => (fallback === undefined ? c : c.notNull().defaultTo(sql.raw(fallback))))
      .execute()
  }
  await db.schema.createIndex('machines_by_machine_id').on('machines').column('machine_id').execute()
  await fillMachineIds(db)
}

/** Facts that do not change are not sent again, so what they say of it is read from those that are kept. */
async function fillMachineIds(db: Kysely<unknown>): Promise<void> {
  for (let after = ''; ; ) {
    const { rows } = await sql<{ machine: string; facts: Uint8Array }>`
      select machine, facts from facts
      where machine > ${after}
        and at = (select max(newest.at) from facts as newest where newest.machine = facts.machine)
      order by machine limit ${PAGE}`.execute(db)
    for (const { machine, facts } of rows) {
      const machineId = machineIdIn(facts)
      if (machineId !== '')
        await sql`update machines set machine_id = ${machineId} where id = ${machine}`.execute(db)
    }
    const last = rows.at(-1)
    if (!last || rows.length < PAGE) return
    after = last.machine
  }
}

function machineIdIn(bytes: Uint8Array): string {
  try {
    return fromBinary(FactsSchema, bytes).system?.machineId?.slice(0, 64) ?? ''
  } catch {
    return '' // facts that cannot be read say nothing; they are told anew after the machine's next boot
  }
}
