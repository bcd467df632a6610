import type { Insertable, Kysely, Selectable, Transaction } from 'kysely'
import type { ClusterActsTable, ClusterCordonsTable } from '../../store/cluster-tables.ts'
import type { Database } from '../../store/tables.ts'
import {
  ACT_WORDS,
  type ActWord,
  type ClusterAct,
  type Cordon,
  type CordonAfter,
  OWN_WORDS,
} from './cluster-act.ts'
import { rolloutOfDrain } from './drain-id.ts'

type Db = Kysely<Database>
type Tx = Transaction<Database>

export async function findAct(db: Db, id: string): Promise<ClusterAct | undefined> {
  const row = await db.selectFrom('cluster_acts').selectAll().where('id', '=', id).executeTakeFirst()
  return row && actOf(row)
}

export async function findActByRequest(db: Db, request: string): Promise<ClusterAct | undefined> {
  const row = await db
    .selectFrom('cluster_acts')
    .selectAll()
    .where('request', '=', request)
    .executeTakeFirst()
  return row && actOf(row)
}

/** Those of these requests that became acts, in no order. */
export async function findActsByRequests(
  db: Db,
  requests: readonly string[],
): Promise<readonly ClusterAct[]> {
  const CHUNK = 500
  const found: ClusterAct[] = []
  for (let at = 0; at < requests.length; at += CHUNK) {
    const some = requests.slice(at, at + CHUNK)
    const rows = await db.selectFrom('cluster_acts').selectAll().where('request', 'in', some).execute()
    found.push(...rows.map(actOf))
  }
  return found
}

/** The act that told a machine this operation. */
export async function findActOfOperation(db: Db, operation: string): Promise<ClusterAct | undefined> {
  const row = await db
    .selectFrom('cluster_acts')
    .selectAll()
    .where('operation', '=', operation)
    .executeTakeFirst()
  return row && actOf(row)
}

/** Acts of a cluster that are under way, oldest first. */
export async function openActs(db: Db, cluster: string): Promise<readonly ClusterAct[]> {
  const rows = await db
    .selectFrom('cluster_acts')
    .selectAll()
    .where('cluster', '=', cluster)
    .where('ended', 'is', null)
    .orderBy('asked')
    .orderBy('id')
    .execute()
  return rows.map(actOf)
}

/** Newest first. */
export async function listActs(
  db: Db,
  input: { readonly cluster?: string; readonly act?: ActWord; readonly limit: number },
): Promise<readonly ClusterAct[]> {
  let query = db.selectFrom('cluster_acts').selectAll()
  if (input.cluster !== undefined) query = query.where('cluster', '=', input.cluster)
  if (input.act !== undefined) query = query.where('act', '=', input.act)
  const rows = await query.orderBy('asked', 'desc').orderBy('id', 'desc').limit(input.limit).execute()
  return rows.map(actOf)
}

/** So many newest acts of a host tell of its cordon. */
const CORDON_ACTS = 50

/** Acts that set or lift the cordon of a host, newest first. */
export async function cordonActsOf(db: Db, cluster: string, host: string): Promise<readonly ClusterAct[]> {
  const rows = await db
    .selectFrom('cluster_acts')
    .selectAll()
    .where('cluster', '=', cluster)
    .where('host', '=', host)
    .where('act', 'in', ['drain', 'cordon', 'uncordon'])
    .orderBy('asked', 'desc')
    .orderBy('id', 'desc')
    .limit(CORDON_ACTS)
    .execute()
  return rows.map(actOf)
}

/** Requests of all acts of one of our own words in a cluster, whatever came of them. */
export async function requestsOf(
  db: Db,
  cluster: string,
  word: (typeof OWN_WORDS)[number],
): Promise<ReadonlySet<string>> {
  const rows = await db
    .selectFrom('cluster_acts')
    .select('request')
    .where('cluster', '=', cluster)
    .where('act', '=', word)
    .execute()
  return new Set(rows.map(({ request }) => request))
}

export async function insertAct(tx: Tx, act: ClusterAct): Promise<void> {
  await tx.insertInto('cluster_acts').values(rowOf(act)).execute()
}

export async function updateAct(tx: Tx, act: ClusterAct): Promise<void> {
  const { id, ...row } = rowOf(act)
  await tx.updateTable('cluster_acts').set(row).where('id', '=', id).execute()
}

/** Ended acts from before an instant; adoptions and restores, and what followed from them, are remembered for good. Says how many. */
export async function deleteOldActs(
  tx: Tx,
  input: { readonly beforeMs: number; readonly limit: number },
): Promise<number> {
  const rows = await tx
    .selectFrom('cluster_acts')
    .select('id')
    .where('ended', '<', input.beforeMs)
    .where('act', 'not in', ['adopt', 'restore', 'stand-down'])
    .orderBy('ended')
    .limit(input.limit)
    .execute()
  const ids = rows.map(({ id }) => id)
  if (ids.length > 0) await tx.deleteFrom('cluster_acts').where('id', 'in', ids).execute()
  return ids.length
}

export async function listCordons(db: Db, cluster?: string): Promise<readonly Cordon[]> {
  let query = db
    .selectFrom('cluster_cordons as cordon')
    // An act that a rollout asked for has the name of its grant; where an operator asked for a drain, that is the rollout's act.
    .leftJoin('rollout_grants as grant', join =>
      join.onRef('grant.operation', '=', 'cordon.act').on('grant.step', '=', 'drain'),
    )
    .select(['cordon.cluster', 'cordon.host', 'cordon.act', 'cordon.asked_by', 'cordon.at', 'grant.rollout'])
  if (cluster !== undefined) query = query.where('cordon.cluster', '=', cluster)
  const rows = await query.orderBy('cordon.cluster').orderBy('cordon.host').execute()
  return rows.map(({ asked_by: askedBy, at: atMs, rollout: granted, ...row }) => {
    // Where the grant is not on record the act itself says it.
    const rollout = granted ?? rolloutOfDrain(row.act)
    return { ...row, askedBy, atMs, ...(rollout !== undefined && { rollout }) }
  })
}

/** Takes down a cordon before it is ordered. One that is there stays as it is: it began earlier. */
export async function putCordon(tx: Tx, { askedBy, atMs, ...cordon }: Cordon): Promise<void> {
  const row: Insertable<ClusterCordonsTable> = { ...cordon, asked_by: askedBy, at: atMs }
  await tx
    .insertInto('cluster_cordons')
    .values(row)
    .onConflict(conflict => conflict.columns(['cluster', 'host']).doNothing())
    .execute()
}

/** Of an act, when it is named; else whatever cordon of ours is there. */
export async function dropCordon(tx: Tx, cluster: string, host: string, act?: string): Promise<void> {
  let query = tx.deleteFrom('cluster_cordons').where('cluster', '=', cluster).where('host', '=', host)
  if (act !== undefined) query = query.where('act', '=', act)
  await query.execute()
}

/** Takes down whose cordon a node was left with. */
export async function noteCordon(
  tx: Tx,
  { cluster, host }: Pick<Cordon, 'cluster' | 'host'>,
  after: CordonAfter,
  now: number,
): Promise<void> {
  if (after.kind === 'as-before') return
  if (after.kind === 'none') {
    await dropCordon(tx, cluster, host, after.act)
    return
  }
  const { act } = after
  const askedBy = (await findAct(tx, act))?.askedBy ?? ''
  await putCordon(tx, { cluster, host, act, askedBy, atMs: now })
  await tx
    .updateTable('cluster_cordons')
    .set({ act, asked_by: askedBy, at: now })
    .where('cluster', '=', cluster)
    .where('host', '=', host)
    .where('act', '!=', act)
    .execute()
}

const words: readonly ActWord[] = [...ACT_WORDS, ...OWN_WORDS]

function actOf(row: Selectable<ClusterActsTable>): ClusterAct {
  const act = words.find(word => word === row.act)
  if (act === undefined) throw new Error(`store: cluster_acts holds the unknown act ${row.act}`)
  return {
    id: row.id,
    request: row.request,
    intent: row.intent,
    cluster: row.cluster,
    act,
    host: row.host,
    machine: row.machine,
    executor: row.executor,
    executorHost: row.executor_host,
    operation: row.operation,
    parameter: row.parameter,
    askedBy: row.asked_by,
    askedMs: row.asked,
    expiresMs: row.expires ?? undefined,
    order: row.cluster_order === null ? undefined : new Uint8Array(row.cluster_order),
    attempts: row.attempts,
    notBeforeMs: row.not_before,
    endedMs: row.ended ?? undefined,
    done: row.done === 1,
    class: row.class,
    reason: row.reason,
    result: row.result === null ? undefined : new Uint8Array(row.result),
  }
}

function rowOf(act: ClusterAct): Insertable<ClusterActsTable> {
  return {
    id: act.id,
    request: act.request,
    intent: act.intent,
    cluster: act.cluster,
    act: act.act,
    host: act.host,
    machine: act.machine,
    executor: act.executor,
    executor_host: act.executorHost,
    operation: act.operation,
    parameter: act.parameter,
    asked_by: act.askedBy,
    asked: act.askedMs,
    expires: act.expiresMs ?? null,
    cluster_order: act.order ?? null,
    attempts: act.attempts,
    not_before: act.notBeforeMs,
    ended: act.endedMs ?? null,
    done: act.done ? 1 : 0,
    class: act.class,
    reason: act.reason,
    result: act.result ?? null,
  }
}
