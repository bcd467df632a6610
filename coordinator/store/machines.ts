import type { Kysely, Selectable, Transaction } from 'kysely'
import { aborted } from '../../shared/rpc/rpc-error.ts'
import type { Database, MachinesTable } from './tables.ts'

export type MachineRow = Selectable<MachinesTable>
export type NewMachineRow = Omit<MachineRow, 'public_key'> & { readonly public_key: Uint8Array }
/** What may change about a machine; its key and its id never do. */
export type MachineChange = Partial<Omit<MachineRow, 'id' | 'public_key' | 'first_seen' | 'generation'>>

/** A row with nothing known yet but the key. */
export function newMachineRow(input: {
  readonly id: string
  readonly publicKey: Uint8Array
  readonly state: string
  readonly nowMs: number
  readonly address: string
}): NewMachineRow {
  return {
    id: input.id,
    state: input.state,
    public_key: input.publicKey,
    first_seen: input.nowMs,
    last_seen: input.nowMs,
    address: input.address,
    admitted_by: '',
    admitted_at: null,
    labels: '{}',
    facts_digest: '',
    serial: '',
    uuid: '',
    product: '',
    disks_digest: '',
    macs: '[]',
    disk_serials: '[]',
    reboot_reasons: '[]',
    accepted: '[]',
    simulated: 0,
    agent_version: '',
    certificate_not_after: null,
    certificate_issuer: '',
    trust_number: 0,
    trust_digest: '',
    trust_first_use: 0,
    trust_confirmed: '',
    boot_count: 0,
    boot_id: '',
    journal_sequence: 0,
    acknowledged: 0,
    highest_revision: 0,
    highest_digest: '',
    applied_revision: 0,
    evicted_at: null,
    acting_host: '',
    allowed: '[]',
    machine_id: '',
    held_reason: '',
    held_since: null,
    quarantined: 0,
    node_status: null,
    generation: 1,
  }
}

export function findMachine(db: Kysely<Database>, id: string): Promise<MachineRow | undefined> {
  return db.selectFrom('machines').selectAll().where('id', '=', id).executeTakeFirst()
}

/** Those of these machines that exist, in no order; at most 500 at a time. */
export async function findMachines(db: Kysely<Database>, ids: readonly string[]): Promise<MachineRow[]> {
  if (ids.length > 500) throw new RangeError('findMachines: at most 500 machines at a time')
  if (ids.length === 0) return []
  return await db
    .selectFrom('machines')
    .selectAll()
    .where('id', 'in', [...ids])
    .execute()
}

export async function insertMachine(tx: Transaction<Database>, row: NewMachineRow): Promise<void> {
  await tx.insertInto('machines').values(row).execute()
}

/** Compare and set: fails when somebody else changed the machine since it was read. */
export async function changeMachine(
  tx: Transaction<Database>,
  row: Pick<MachineRow, 'id' | 'generation'>,
  change: MachineChange,
): Promise<void> {
  const { numUpdatedRows } = await tx
    .updateTable('machines')
    .set({ ...change, generation: row.generation + 1 })
    .where('id', '=', row.id)
    .where('generation', '=', row.generation)
    .executeTakeFirst()
  if (numUpdatedRows !== 1n) throw aborted(`machine ${row.id}: was changed meanwhile, try again`)
}

/** Takes down how far a machine's journal is acknowledged to it, before it is. Not a change of the machine that others compare. */
export async function noteAcknowledged(
  tx: Transaction<Database>,
  id: string,
  sequence: number,
): Promise<void> {
  await tx
    .updateTable('machines')
    .set({ acknowledged: sequence })
    .where('id', '=', id)
    .where('acknowledged', '<', sequence)
    .execute()
}

/** Marks a machine as changed whose own columns stay, since a condition of it changed. */
export async function bumpMachine(tx: Transaction<Database>, id: string): Promise<void> {
  await tx
    .updateTable('machines')
    .set(({ ref, eb }) => ({ generation: eb(ref('generation'), '+', 1) }))
    .where('id', '=', id)
    .execute()
}

/** Live machines that claim this serial; bounded, since a stranger decides how many claim the same. */
export function machinesWithSerial(
  db: Kysely<Database>,
  serial: string,
  limit: number,
): Promise<Pick<MachineRow, 'id' | 'state' | 'serial' | 'uuid' | 'disks_digest' | 'accepted'>[]> {
  return (
    db
      .selectFrom('machines')
      .select(['id', 'state', 'serial', 'uuid', 'disks_digest', 'accepted'])
      .where('serial', '=', serial)
      .where('state', 'in', ['active', 'enrolled', 'pending'])
      // By state: machines that were let in come before a crowd of strangers.
      .orderBy('state')
      .orderBy('id')
      .limit(limit)
      .execute()
  )
}

/** A page of machines in order of their ids. */
export function pageMachines(
  db: Kysely<Database>,
  input: { readonly after: string; readonly limit: number; readonly states?: readonly string[] },
): Promise<MachineRow[]> {
  let query = db.selectFrom('machines').selectAll().where('id', '>', input.after)
  if (input.states) query = query.where('state', 'in', [...input.states])
  return query.orderBy('id').limit(input.limit).execute()
}

/** Ids that one statement may name, well below what either store takes. */
const CHUNK = 500

/**
 * Writes when machines were last heard of. Times are cut to the second, so that a batch of a thousand machines takes a
 * few statements and not a thousand.
 */
export async function touchMachines(
  tx: Transaction<Database>,
  seen: ReadonlyMap<string, Date>,
): Promise<void> {
  const bySecond = new Map<number, string[]>()
  for (const [id, at] of seen) {
    const second = Math.floor(at.getTime() / 1000) * 1000
    const ids = bySecond.get(second)
    if (ids) ids.push(id)
    else bySecond.set(second, [id])
  }
  for (const [second, ids] of bySecond) {
    for (let start = 0; start < ids.length; start += CHUNK) {
      await tx
        .updateTable('machines')
        .set({ last_seen: second })
        .where('id', 'in', ids.slice(start, start + CHUNK))
        .where('last_seen', '<', second)
        .execute()
    }
  }
}

/** How many machines that are let in hang on a certificate of this authority that is still good. */
export async function countCertificatesOf(
  db: Kysely<Database>,
  issuer: string,
  nowMs: number,
): Promise<number> {
  const row = await db
    .selectFrom('machines')
    .select(({ fn }) => fn.countAll<number>().as('count'))
    .where('state', 'in', ['enrolled', 'active'])
    .where('certificate_issuer', '=', issuer)
    .where('certificate_not_after', '>', nowMs)
    .executeTakeFirstOrThrow()
  return Number(row.count)
}

/** Machines that are let in and have an older trust set than this one, or none that was heard of; by id. */
export async function machinesBeforeTrust(db: Kysely<Database>, number: number): Promise<readonly string[]> {
  const rows = await db
    .selectFrom('machines')
    .select('id')
    .where('state', 'in', ['enrolled', 'active'])
    .where('trust_number', '<', number)
    .orderBy('id')
    .execute()
  return rows.map(row => row.id)
}

/** How many live machines were let in by this word, as it stands at each of them. */
export async function countAdmittedBy(db: Kysely<Database>, admittedBy: string): Promise<number> {
  const row = await db
    .selectFrom('machines')
    .select(({ fn }) => fn.countAll<number>().as('count'))
    .where('state', 'in', ['enrolled', 'active'])
    .where('admitted_by', '=', admittedBy)
    .executeTakeFirstOrThrow()
  return Number(row.count)
}

/** How many machines wait to be let in. */
export async function countPending(db: Kysely<Database>): Promise<number> {
  const row = await db
    .selectFrom('machines')
    .select(({ fn }) => fn.countAll<number>().as('count'))
    .where('state', '=', 'pending')
    .executeTakeFirstOrThrow()
  return Number(row.count)
}

/** Waiting machines that were last heard of before this time, oldest first. */
export async function stalePending(
  db: Kysely<Database>,
  beforeMs: number,
  limit: number,
): Promise<readonly string[]> {
  const rows = await db
    .selectFrom('machines')
    .select('id')
    .where('state', '=', 'pending')
    .where('last_seen', '<', beforeMs)
    .orderBy('last_seen')
    .limit(limit)
    .execute()
  return rows.map(row => row.id)
}

/** Forgets waiting machines with all that is known of them; their events stay. */
export async function deletePending(tx: Transaction<Database>, ids: readonly string[]): Promise<void> {
  if (ids.length === 0) return
  for (const table of ['facts', 'conditions', 'bindings'] as const) {
    await tx
      .deleteFrom(table)
      .where('machine', 'in', [...ids])
      .execute()
  }
  await tx
    .deleteFrom('machines')
    .where('id', 'in', [...ids])
    .where('state', '=', 'pending')
    .execute()
}
