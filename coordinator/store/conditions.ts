import type { Kysely, Selectable, Transaction } from 'kysely'
import { cutText } from '../../shared/cut-text.ts'
import type { ConditionsTable, Database } from './tables.ts'

export type ConditionRow = Selectable<ConditionsTable>

/** Longest reason kept; what machines claim may stand in it. */
const MAX_REASON_CHARS = 2_000

export function conditionsOf(db: Kysely<Database>, machine: string): Promise<ConditionRow[]> {
  return db.selectFrom('conditions').selectAll().where('machine', '=', machine).orderBy('class').execute()
}

export function allConditions(db: Kysely<Database>): Promise<ConditionRow[]> {
  return db.selectFrom('conditions').selectAll().execute()
}

/** Sets a condition. One that lasts keeps the time it began. */
export async function setCondition(tx: Transaction<Database>, row: ConditionRow): Promise<void> {
  const reason = cutText(row.reason, MAX_REASON_CHARS)
  await tx
    .insertInto('conditions')
    .values({ ...row, reason })
    .onConflict(conflict => conflict.columns(['machine', 'class']).doUpdateSet({ reason }))
    .execute()
}

export async function clearConditions(
  tx: Transaction<Database>,
  machine: string,
  classes: readonly string[],
): Promise<void> {
  if (classes.length === 0) return
  await tx
    .deleteFrom('conditions')
    .where('machine', '=', machine)
    .where('class', 'in', [...classes])
    .execute()
}
