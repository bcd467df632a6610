import type { Kysely, Selectable, Transaction } from 'kysely'
import type { BindingsTable, Database } from './tables.ts'

export type BindingRow = Selectable<BindingsTable>

export function allBindings(db: Kysely<Database>): Promise<BindingRow[]> {
  return db.selectFrom('bindings').selectAll().execute()
}

export function bindingOfHost(db: Kysely<Database>, host: string): Promise<BindingRow | undefined> {
  return db.selectFrom('bindings').selectAll().where('host', '=', host).executeTakeFirst()
}

/** Binds a host by hand; whatever the machine was bound to by hand before is given up. The host must be free. */
export async function insertBinding(tx: Transaction<Database>, row: BindingRow): Promise<void> {
  await tx.deleteFrom('bindings').where('machine', '=', row.machine).execute()
  await tx.insertInto('bindings').values(row).execute()
}

export async function deleteBinding(tx: Transaction<Database>, host: string): Promise<void> {
  await tx.deleteFrom('bindings').where('host', '=', host).execute()
}

/** A machine that is sent away gives its host free. */
export async function deleteBindingOfMachine(tx: Transaction<Database>, machine: string): Promise<void> {
  await tx.deleteFrom('bindings').where('machine', '=', machine).execute()
}
