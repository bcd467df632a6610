import type { Kysely, Transaction } from 'kysely'
import type { Database } from '../store/tables.ts'
import { type ClusterRecord, emptyRecord } from './cluster-record.ts'
import type { Observation } from './cluster-snapshot.ts'
import {
  clearOf,
  clearRow,
  clusterRow,
  foundingOf,
  joinOf,
  joinRow,
  leaveOf,
  leaveRow,
  nodeRow,
  observationOf,
} from './record-rows.ts'

/** Ids or rows that go into one statement; both stores bound the parameters of a statement. */
const CHUNK = 200

export interface StoredRecord {
  readonly record: ClusterRecord
  /** Which writing it is; 0: it was never written. */
  readonly generation: number
}

/** The record of a cluster; an empty one when nothing was ever written of it. */
export async function loadRecord(db: Kysely<Database>, name: string): Promise<StoredRecord> {
  const row = await db.selectFrom('clusters').selectAll().where('name', '=', name).executeTakeFirst()
  if (!row) return { record: emptyRecord(name), generation: 0 }
  const { count, settled, first_server: firstServer, set_back: setBackAt, generation } = row
  const joins = await db
    .selectFrom('cluster_joins')
    .selectAll()
    .where('cluster', '=', name)
    .orderBy('operation')
    .execute()
  const clears = await db
    .selectFrom('cluster_clears')
    .selectAll()
    .where('cluster', '=', name)
    .orderBy('operation')
    .execute()
  const leaves = await db
    .selectFrom('cluster_leaves')
    .selectAll()
    .where('cluster', '=', name)
    .orderBy('request')
    .execute()
  const left = await db
    .selectFrom('cluster_left')
    .selectAll()
    .where('cluster', '=', name)
    .orderBy('host')
    .execute()
  const attempts = await db
    .selectFrom('cluster_attempts')
    .selectAll()
    .where('cluster', '=', name)
    .orderBy('machine')
    .execute()
  const record: ClusterRecord = {
    name,
    count,
    founding: foundingOf(row),
    firstServer: firstServer ?? undefined,
    joins: joins.map(joinOf),
    clears: clears.map(clearOf),
    leaves: leaves.map(leaveOf),
    left: new Map(left.map(({ host, machine }) => [host, machine])),
    attempts: new Map(
      attempts.map(({ machine, failures, not_before: notBeforeMs, over: overMs, reason, minted }) => [
        machine,
        { failures, notBeforeMs, overMs, reason, mintedAt: minted === 0 ? undefined : minted },
      ]),
    ),
    settledMs: settled,
    setBackAt,
  }
  return { record, generation }
}

/**
 * Writes what differs between a record as it was read and as it is to be; nothing when it is the same. Compare and set: a
 * record that somebody else wrote in between is left as it is, and the answer is false.
 */
export async function saveRecord(
  tx: Transaction<Database>,
  before: StoredRecord,
  after: ClusterRecord,
): Promise<boolean> {
  if (before.record === after) return true
  const cluster = after.name
  if (!(await writeCluster(tx, before.generation, after))) return false

  await writeChanges(
    diff(before.record.joins, after.joins, join => join.operation),
    keys => tx.deleteFrom('cluster_joins').where('operation', 'in', keys).execute(),
    joins =>
      tx
        .insertInto('cluster_joins')
        .values(joins.map(join => joinRow(cluster, join)))
        .execute(),
  )
  await writeChanges(
    diff(before.record.clears, after.clears, clear => clear.operation),
    keys => tx.deleteFrom('cluster_clears').where('operation', 'in', keys).execute(),
    clears =>
      tx
        .insertInto('cluster_clears')
        .values(clears.map(clear => clearRow(cluster, clear)))
        .execute(),
  )
  await writeChanges(
    diff(before.record.leaves, after.leaves, leave => leave.request),
    keys => tx.deleteFrom('cluster_leaves').where('request', 'in', keys).execute(),
    leaves =>
      tx
        .insertInto('cluster_leaves')
        .values(leaves.map(leave => leaveRow(cluster, leave)))
        .execute(),
  )
  await writeChanges(
    diff([...before.record.left], [...after.left], ([host]) => host, sameEntry),
    hosts =>
      tx.deleteFrom('cluster_left').where('cluster', '=', cluster).where('host', 'in', hosts).execute(),
    left =>
      tx
        .insertInto('cluster_left')
        .values(left.map(([host, machine]) => ({ cluster, host, machine })))
        .execute(),
  )
  await writeChanges(
    diff([...before.record.attempts], [...after.attempts], ([machine]) => machine, sameEntry),
    ids =>
      tx.deleteFrom('cluster_attempts').where('cluster', '=', cluster).where('machine', 'in', ids).execute(),
    attempts =>
      tx
        .insertInto('cluster_attempts')
        .values(
          attempts.map(([machine, { failures, notBeforeMs, overMs, reason, mintedAt }]) => ({
            cluster,
            machine,
            failures,
            not_before: notBeforeMs,
            over: overMs,
            reason,
            minted: mintedAt ?? 0,
          })),
        )
        .execute(),
  )
  return true
}

async function writeCluster(
  tx: Transaction<Database>,
  generation: number,
  after: ClusterRecord,
): Promise<boolean> {
  const row = clusterRow(after, generation + 1)
  if (generation === 0) {
    const { numInsertedOrUpdatedRows } = await tx
      .insertInto('clusters')
      .values(row)
      .onConflict(conflict => conflict.column('name').doNothing())
      .executeTakeFirst()
    return numInsertedOrUpdatedRows === 1n
  }
  const { numUpdatedRows } = await tx
    .updateTable('clusters')
    .set(row)
    .where('name', '=', after.name)
    .where('generation', '=', generation)
    .executeTakeFirst()
  return numUpdatedRows === 1n
}

interface Changes<Item> {
  /** Keys of what is no more, and of what is another. */
  readonly stale: readonly string[]
  readonly items: readonly Item[]
}

/** Records are never changed in place, so what is the same object is the same. */
function diff<Item>(
  before: readonly Item[],
  after: readonly Item[],
  keyOf: (item: Item) => string,
  same: (a: Item, b: Item) => boolean = Object.is,
): Changes<Item> {
  const old = new Map(before.map(item => [keyOf(item), item]))
  const kept = new Set(after.map(keyOf))
  const items = after.filter(item => {
    const known = old.get(keyOf(item))
    return known === undefined || !same(known, item)
  })
  const gone = [...old.keys()].filter(key => !kept.has(key))
  return { stale: [...gone, ...items.map(keyOf).filter(key => old.has(key))], items }
}

function sameEntry<Value>([, a]: readonly [string, Value], [, b]: readonly [string, Value]): boolean {
  return Object.is(a, b)
}

/** What is another is deleted and written anew, everything that goes before anything that comes. */
async function writeChanges<Item>(
  { stale, items }: Changes<Item>,
  remove: (keys: string[]) => Promise<unknown>,
  insert: (items: Item[]) => Promise<unknown>,
): Promise<void> {
  for (let at = 0; at < stale.length; at += CHUNK) await remove(stale.slice(at, at + CHUNK))
  for (let at = 0; at < items.length; at += CHUNK) await insert(items.slice(at, at + CHUNK))
}

/** Takes down what machines said they have on their disks; an older answer never replaces a newer one. */
export async function saveObservation(
  tx: Transaction<Database>,
  machine: string,
  seen: Observation,
): Promise<void> {
  const row = nodeRow(machine, seen)
  const { machine: _, ...values } = row
  await tx
    .insertInto('cluster_nodes')
    .values(row)
    .onConflict(conflict =>
      conflict.column('machine').doUpdateSet(values).where('cluster_nodes.as_of', '<', seen.asOfMs),
    )
    .execute()
}

/**
 * The store was set back: that a disk was empty, or held what was begun, is of before, and counts for nothing until its machine says it
 * again. What has data of a cluster keeps it.
 */
export async function forgetEmptyDisks(tx: Transaction<Database>): Promise<void> {
  await tx.deleteFrom('cluster_nodes').where('data', '!=', 'cluster').execute()
}

/** What these machines last said; one that never spoke is missing, and counts as unknown. */
export async function loadObservations(
  db: Kysely<Database>,
  machines: readonly string[],
): Promise<ReadonlyMap<string, Observation>> {
  const found = new Map<string, Observation>()
  for (let at = 0; at < machines.length; at += CHUNK) {
    const some = machines.slice(at, at + CHUNK)
    const rows = await db.selectFrom('cluster_nodes').selectAll().where('machine', 'in', some).execute()
    for (const row of rows) found.set(row.machine, observationOf(row))
  }
  return found
}
