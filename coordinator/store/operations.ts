import { fromBinary, toBinary } from '@bufbuild/protobuf'
import type { Insertable, Kysely, Selectable, Transaction } from 'kysely'
import {
  type Outcome,
  OutcomeClass,
  OutcomeSchema,
  Phase,
  type PhaseRecord,
  PhaseRecordSchema,
  type SignedOutcome,
  SignedOutcomeSchema,
} from '../../shared/gen/muster/v1/operation_pb.ts'
import { type Plan, PlanSchema } from '../../shared/gen/muster/v1/plan_pb.ts'
import { reachedSystem } from '../../shared/system-change.ts'
import { CHANGES } from '../operations/order-action.ts'
import { readMeta, writeMeta } from './meta.ts'
import type { Database, OperationsTable } from './tables.ts'

export type OperationRow = Selectable<OperationsTable>
export type NewOperationRow = Insertable<OperationsTable>

/** Ids or rows that go into one statement; both stores bound the parameters of a statement. */
const CHUNK = 500

export async function insertOperations(
  tx: Transaction<Database>,
  rows: readonly NewOperationRow[],
): Promise<void> {
  for (let at = 0; at < rows.length; at += CHUNK) {
    await tx
      .insertInto('operations')
      .values(rows.slice(at, at + CHUNK))
      .execute()
  }
}

export async function findOperation(db: Kysely<Database>, id: string): Promise<OperationRow | undefined> {
  return await db.selectFrom('operations').selectAll().where('id', '=', id).executeTakeFirst()
}

/** Operations whose id begins so; at most two, since one tells enough and two tell that it is not unambiguous. */
export async function operationsByPrefix(db: Kysely<Database>, prefix: string): Promise<OperationRow[]> {
  return await db
    .selectFrom('operations')
    .selectAll()
    .where('id', '>=', prefix)
    .where('id', '<', `${prefix}\uffff`)
    .orderBy('id')
    .limit(2)
    .execute()
}

/** Those of the ids that exist, in no order. */
export async function findOperations(db: Kysely<Database>, ids: readonly string[]): Promise<OperationRow[]> {
  const rows: OperationRow[] = []
  for (let at = 0; at < ids.length; at += CHUNK) {
    const some = ids.slice(at, at + CHUNK)
    rows.push(...(await db.selectFrom('operations').selectAll().where('id', 'in', some).execute()))
  }
  return rows
}

/** Newest first; of one machine, or of all. */
export async function listOperationRows(
  db: Kysely<Database>,
  input: { readonly machine?: string; readonly limit: number },
): Promise<OperationRow[]> {
  let query = db.selectFrom('operations').selectAll()
  if (input.machine !== undefined) query = query.where('machine', '=', input.machine)
  return await query.orderBy('ordered', 'desc').orderBy('id', 'desc').limit(input.limit).execute()
}

/**
 * Applies and rollbacks of a machine that may have brought it to a system for good, newest first; of whatever else was ordered
 * meanwhile. `reachedSystem` says of which of them that is so.
 */
export async function reachedOperations(
  db: Kysely<Database>,
  machine: string,
  limit: number,
): Promise<OperationRow[]> {
  return await db
    .selectFrom('operations')
    .selectAll()
    .where('machine', '=', machine)
    .where(({ or, eb }) =>
      or([
        eb('outcome_class', 'in', [...REACHED]),
        eb('outcome_class', '=', OutcomeClass.ACTIVATION_FAILED).and(eb('phase', '=', Phase.KUBERNETES)),
      ]),
    )
    .where(({ or, eb }) => or([eb('action', 'in', [...REACHES]), eb('action', 'is', null)]))
    .orderBy('ordered', 'desc')
    .orderBy('id', 'desc')
    .limit(limit)
    .execute()
}

/** The change of a machine that was ordered last of those that ended, however they did. */
export async function newestEndedChange(
  db: Kysely<Database>,
  machine: string,
): Promise<OperationRow | undefined> {
  return await db
    .selectFrom('operations')
    .selectAll()
    .where('machine', '=', machine)
    .where('ended', 'is not', null)
    .where(({ or, eb }) => or([eb('action', 'in', CHANGES), eb('action', 'is', null)]))
    .orderBy('ordered', 'desc')
    .orderBy('id', 'desc')
    .limit(1)
    .executeTakeFirst()
}

/** Actions that bring a machine to a system. */
export const REACHES = ['apply', 'rollback'] as const
/** Outcomes of those that got there. */
export const REACHED: readonly number[] = [OutcomeClass.SUCCEEDED, OutcomeClass.DEGRADED]

/** What was ordered of a machine and what became of it, newest first; without outcomes and plans, which may be long. */
export async function pastOperations(
  db: Kysely<Database>,
  machine: string,
  limit: number,
): Promise<
  Pick<
    OperationRow,
    | 'id'
    | 'action'
    | 'revision'
    | 'outcome_class'
    | 'phase'
    | 'rollback_to'
    | 'rollback_before'
    | 'ordered'
    | 'retry_of'
  >[]
> {
  return await db
    .selectFrom('operations')
    .select([
      'id',
      'action',
      'revision',
      'outcome_class',
      'phase',
      'rollback_to',
      'rollback_before',
      'ordered',
      'retry_of',
    ])
    .where('machine', '=', machine)
    .orderBy('ordered', 'desc')
    .orderBy('id', 'desc')
    .limit(limit)
    .execute()
}

/** Operations that ended before this, in milliseconds, may have been deleted. 0: none ever was. */
export async function prunedBeforeMs(db: Kysely<Database>): Promise<number> {
  return Number((await readMeta(db, PRUNED_KEY)) ?? 0)
}

const PRUNED_KEY = 'operations_pruned_before'
/** A node may have begun by its own clock a little after what ended here. */
const PRUNED_SLACK_MS = 600_000

/** Takes down that operations are deleted, the newest of which ended then. */
export async function notePruned(tx: Transaction<Database>, endedMs: number): Promise<void> {
  const beforeMs = endedMs + PRUNED_SLACK_MS
  if (beforeMs > (await prunedBeforeMs(tx))) await writeMeta(tx, PRUNED_KEY, String(beforeMs))
}

/** Whether any operation of a machine is on record. Every session asks: nothing is sorted for it. */
export async function hasOperations(db: Kysely<Database>, machine: string): Promise<boolean> {
  const found = await db
    .selectFrom('operations')
    .select('id')
    .where('machine', '=', machine)
    .limit(1)
    .execute()
  return found.length > 0
}

/** Of these machines the newest operation that found out what this manifest would change there. */
export async function newestPlans(
  db: Kysely<Database>,
  machines: readonly string[],
  manifestDigest: string,
): Promise<OperationRow[]> {
  const newest = new Map<string, { readonly id: string; readonly ordered: number }>()
  for (let at = 0; at < machines.length; at += CHUNK) {
    // Without the plans themselves, which may be long.
    const some = await db
      .selectFrom('operations')
      .select(['id', 'machine', 'ordered'])
      .where('machine', 'in', machines.slice(at, at + CHUNK))
      .where('manifest_digest', '=', manifestDigest)
      .where('action', 'in', ['plan', 'apply'])
      .where('plan', 'is not', null)
      .execute()
    for (const { machine, id, ordered } of some) {
      if ((newest.get(machine)?.ordered ?? -1) < ordered) newest.set(machine, { id, ordered })
    }
  }
  return await findOperations(
    db,
    [...newest.values()].map(({ id }) => id),
  )
}

/** Operations without an outcome of these machines, oldest first. */
export async function openOperations(
  db: Kysely<Database>,
  machines: readonly string[],
): Promise<OperationRow[]> {
  const rows: OperationRow[] = []
  for (let at = 0; at < machines.length; at += CHUNK) {
    const some = await db
      .selectFrom('operations')
      .selectAll()
      .where('outcome_class', '=', 0)
      .where('machine', 'in', machines.slice(at, at + CHUNK))
      .execute()
    rows.push(...some)
  }
  // Sorted here: every session asks, mostly for nothing, and the store's own sorting leaves memory behind each time.
  return rows.sort((a, b) => a.ordered - b.ordered || (a.id < b.id ? -1 : 1))
}

/** Changes that are not over, of all machines; a machine has at most one. */
export async function openChanges(
  db: Kysely<Database>,
): Promise<Pick<OperationRow, 'id' | 'machine' | 'action'>[]> {
  return await db
    .selectFrom('operations')
    .select(['id', 'machine', 'action'])
    .where('outcome_class', '=', 0)
    .where('action', 'in', CHANGES)
    .limit(20_000)
    .execute()
}

/**
 * Operations without an outcome of which the node never spoke, whose order expired: undelivered ones by `expiredMs`,
 * delivered ones by `silentMs`. Oldest first.
 */
export async function silentOperations(
  db: Kysely<Database>,
  input: { readonly expiredMs: number; readonly silentMs: number; readonly limit: number },
): Promise<OperationRow[]> {
  return await db
    .selectFrom('operations')
    .selectAll()
    .where('outcome_class', '=', 0)
    .where('phase', '=', 0)
    .where(({ or, and, eb }) =>
      or([
        and([eb('delivered', 'is', null), eb('expires', '<=', input.expiredMs)]),
        eb('expires', '<=', input.silentMs),
      ]),
    )
    .orderBy('expires')
    .orderBy('id')
    .limit(input.limit)
    .execute()
}

/** Sets what a transition changed. Compare and set: an operation that has an outcome is left as it is. */
export async function advanceOperation(
  tx: Transaction<Database>,
  id: string,
  change: {
    readonly delivered: number | null
    readonly phase: number
    readonly confirmed: number | null
    readonly outcome: Outcome | undefined
    /** Serialised SignedOutcome that belongs to the outcome. */
    readonly signed: Uint8Array | undefined
    readonly nowMs: number
  },
): Promise<boolean> {
  const { outcome } = change
  const { numUpdatedRows } = await tx
    .updateTable('operations')
    .set({
      delivered: change.delivered,
      phase: change.phase,
      confirmed: change.confirmed,
      ...(outcome && change.signed && { signed_outcome: change.signed }),
      ...(outcome && {
        outcome: toBinary(OutcomeSchema, outcome),
        outcome_class: outcome.class,
        ended: change.nowMs,
      }),
    })
    .where('id', '=', id)
    .where('outcome_class', '=', 0)
    .executeTakeFirst()
  return numUpdatedRows === 1n
}

export function outcomeOf(row: Pick<OperationRow, 'outcome'>): Outcome | undefined {
  return row.outcome ? fromBinary(OutcomeSchema, row.outcome) : undefined
}

/** The phases of some operations, each in the order of the node's journal. */
export async function phasesOf(
  db: Kysely<Database>,
  ids: readonly string[],
): Promise<ReadonlyMap<string, PhaseRecord[]>> {
  const found = new Map<string, PhaseRecord[]>()
  for (let at = 0; at < ids.length; at += CHUNK) {
    const rows = await db
      .selectFrom('operation_phases')
      .selectAll()
      .where('operation', 'in', ids.slice(at, at + CHUNK))
      .orderBy('operation')
      .orderBy('sequence')
      .execute()
    for (const row of rows) {
      const record = fromBinary(PhaseRecordSchema, row.record)
      const list = found.get(row.operation)
      if (list) list.push(record)
      else found.set(row.operation, [record])
    }
  }
  return found
}

export async function putPhases(
  tx: Transaction<Database>,
  operation: string,
  records: readonly PhaseRecord[],
): Promise<void> {
  for (const record of records) {
    const bytes = toBinary(PhaseRecordSchema, record)
    await tx
      .insertInto('operation_phases')
      .values({ operation, sequence: Number(record.sequence), record: bytes })
      .onConflict(conflict => conflict.columns(['operation', 'sequence']).doUpdateSet({ record: bytes }))
      .execute()
  }
}

/** Takes down what a node's reports add to an operation: its plan, and which agent was seen to activate. */
export async function annotateOperation(
  tx: Transaction<Database>,
  id: string,
  change: Partial<Pick<NewOperationRow, 'plan' | 'activated_by' | 'badly_signed'>>,
): Promise<void> {
  if (Object.keys(change).length === 0) return
  await tx.updateTable('operations').set(change).where('id', '=', id).execute()
}

export function planOf(row: Pick<OperationRow, 'plan'>): Plan | undefined {
  return row.plan ? fromBinary(PlanSchema, row.plan) : undefined
}

export function signedOutcomeOf(row: Pick<OperationRow, 'signed_outcome'>): SignedOutcome | undefined {
  return row.signed_outcome ? fromBinary(SignedOutcomeSchema, row.signed_outcome) : undefined
}

/** Machines with an order that was to be sent later and may be sent now. */
export async function machinesWithDueOrders(
  db: Kysely<Database>,
  nowMs: number,
  limit: number,
): Promise<string[]> {
  const rows = await db
    .selectFrom('operations')
    .select('machine')
    .distinct()
    .where('outcome_class', '=', 0)
    .where('phase', '=', 0)
    .where('delivered', 'is', null)
    .where('not_before', '>', 0)
    .where('not_before', '<=', nowMs)
    .limit(limit)
    .execute()
  return rows.map(row => row.machine)
}

/** Machines of which a signed outcome is kept, in order of their ids. */
export async function machinesThatSigned(db: Kysely<Database>, limit: number): Promise<string[]> {
  const rows = await db
    .selectFrom('operations')
    .select('machine')
    .distinct()
    .where('signed_outcome', 'is not', null)
    .orderBy('machine')
    .limit(limit)
    .execute()
  return rows.map(row => row.machine)
}

/** Operations of a machine that were signed, newest first. */
export async function signedOperations(
  db: Kysely<Database>,
  machine: string,
  limit: number,
): Promise<OperationRow[]> {
  return await db
    .selectFrom('operations')
    .selectAll()
    .where('machine', '=', machine)
    .where('signed_outcome', 'is not', null)
    .orderBy('ordered', 'desc')
    .orderBy('id', 'desc')
    .limit(limit)
    .execute()
}

/** How many operations of a machine nobody ordered here. */
export async function countUnordered(db: Kysely<Database>, machine: string): Promise<number> {
  const row = await db
    .selectFrom('operations')
    .select(({ fn }) => fn.countAll<number>().as('count'))
    .where('machine', '=', machine)
    .where('ordered_by', '=', UNKNOWN_ORDERER)
    .executeTakeFirstOrThrow()
  return Number(row.count)
}

/** Who "ordered" an operation that only its node knows: this store is older than the order. */
export const UNKNOWN_ORDERER = 'unknown'

/** Newer operations of one machine that are looked at when an older one is told late. */
const MAX_NEWER = 1_000

/** Follows a node to the revision of an operation whose system it runs, unless it reached that of a newer order already. */
export async function setAppliedRevision(
  tx: Transaction<Database>,
  operation: Pick<OperationRow, 'id' | 'machine' | 'ordered' | 'revision'>,
): Promise<void> {
  const newer = await tx
    .selectFrom('operations')
    .select(['action', 'outcome_class', 'phase'])
    .where('machine', '=', operation.machine)
    .where('ordered', '>', operation.ordered)
    .where('action', 'in', ['apply', 'rollback'])
    .where('outcome_class', '!=', 0)
    .orderBy('ordered', 'desc')
    .limit(MAX_NEWER)
    .execute()
  if (newer.some(row => reachedSystem({ ...row, outcomeClass: row.outcome_class }))) return
  await tx
    .updateTable('machines')
    .set({ applied_revision: operation.revision })
    .where('id', '=', operation.machine)
    .execute()
}

/** Follows a node that accepted a revision: it will say so itself at its next Hello, and is shown by it until then. */
export async function setHighestRevision(
  tx: Transaction<Database>,
  machine: string,
  accepted: { readonly revision: number; readonly manifestDigest: string },
): Promise<void> {
  await tx
    .updateTable('machines')
    .set({ highest_revision: accepted.revision, highest_digest: accepted.manifestDigest })
    .where('id', '=', machine)
    .where('highest_revision', '<', accepted.revision)
    .execute()
}
