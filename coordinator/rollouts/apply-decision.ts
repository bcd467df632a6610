import { fromBinary } from '@bufbuild/protobuf'
import type { Transaction } from 'kysely'
import { cutText } from '../../shared/cut-text.ts'
import { type StartRolloutRequest, StartRolloutRequestSchema } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { operationId } from '../../shared/ids.ts'
import { drainId } from '../clusters/acts/drain-id.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import { needsRevision, type WantedAction } from '../operations/order-action.ts'
import { type NewOrders, writeOrders } from '../operations/write-orders.ts'
import { recordEvent } from '../store/events.ts'
import { findRevision } from '../store/revisions.ts'
import {
  changeRollout,
  closeGrant,
  insertGrant,
  putOverride,
  type RolloutRow,
  writeHostRecord,
} from '../store/rollouts.ts'
import type { Database } from '../store/tables.ts'
import { askedOfHost } from './act-request.ts'
import type { WantedAct } from './cluster-source.ts'
import type { Decision, NewGrant, RolloutMove, Wait } from './plan/decision.ts'
import { progressOf } from './plan/host-steps.ts'
import type { RolloutRecord } from './plan/rollout-record.ts'
import { keepSince, type RolloutRows, readRecords, waitsOfRow, waitsToRow } from './read-record.ts'
import { whatItDoes } from './what-it-does.ts'

export interface ApplyInput {
  readonly directory: MachineDirectory
  readonly lifetimeMs: number
  readonly ownMachine: string | undefined
  /** Backups that were made for grants on the coordinator's own machine, by rollout and host. */
  readonly backups: ReadonlyMap<string, NonNullable<NewOrders['backup']>>
}

/** What was written, for those who are to hear of it. */
export interface Applied {
  /** Rollouts of which anything changed. */
  readonly rollouts: readonly string[]
  readonly machines: readonly string[]
  /** Operations that changed on the way. */
  readonly operations: readonly string[]
  /** Whether anything was granted, closed or moved: then there may be more to decide. */
  readonly decided: boolean
  /** A rollout ended that is to be taken back by its policy. */
  readonly takesBack: boolean
}

/** What the decision rested on has changed: nothing of it was written. */
export class StaleDecision extends Error {
  override readonly name = 'StaleDecision'
}

/**
 * Writes a decision, whole or not at all: grants with the orders that they give, in one transaction. Throws StaleDecision when an
 * operator, or anything else, changed one of these rollouts since they were read.
 */
export async function applyDecision(
  tx: Transaction<Database>,
  input: ApplyInput,
  rows: RolloutRows,
  decision: Decision,
  now: Date,
): Promise<Applied> {
  const touched = new Set<string>()
  const decided = new Set([
    ...decision.placements.map(({ rollout }) => rollout),
    ...decision.grants.map(({ rollout }) => rollout),
    ...decision.closings.map(({ rollout }) => rollout),
    ...decision.moves.map(({ rollout }) => rollout),
  ])
  const byId = new Map(rows.rollouts.map(row => [row.id, row]))
  for (const id of decided) {
    const row = byId.get(id)
    const move = decision.moves.find(({ rollout }) => rollout === id)
    if (!row || !(await changeRollout(tx, row, move ? changeOf(move, now) : {}))) {
      throw new StaleDecision(`rollout ${id} was changed meanwhile`)
    }
    touched.add(id)
  }
  for (const { rollout, host, cluster } of decision.placements) {
    await writeHostRecord(tx, { rollout, host }, { cluster })
  }
  for (const { grant, end } of decision.closings) {
    await closeGrant(tx, grant, { ...end, nowMs: now.getTime() })
  }
  const machines: string[] = []
  const operations: string[] = []
  const refused = new Map<string, Wait>()
  for (const grant of decision.grants) {
    const row = byId.get(grant.rollout)
    if (!row || refused.has(`${grant.rollout} ${grant.host}`)) continue
    const given = await give(tx, input, row, grant, now)
    if (typeof given === 'object' && 'gate' in given) {
      refused.set(`${grant.rollout} ${grant.host}`, given)
      continue
    }
    if (given.machine !== '') machines.push(given.machine)
    operations.push(...given.ended)
  }
  await recordOpened(tx, byId, decision.opened, refused, now)
  await recordMoves(tx, byId, decision.moves, now)
  for (const id of await writeWaits(tx, rows, decision, refused, now)) touched.add(id)
  await writeEnds(tx, rows, decision, now)
  return {
    rollouts: [...touched],
    machines,
    operations,
    decided:
      decided.size > 0 &&
      decision.placements.length + decision.grants.length + decision.closings.length + decision.moves.length >
        refused.size,
    takesBack: decision.moves.some(({ revert }) => revert),
  }
}

function changeOf(move: RolloutMove, now: Date) {
  const isOver = move.state !== 'running' && move.state !== 'ending'
  return {
    state: move.state,
    ends_as: move.endsAs ?? '',
    reason: cutText(move.reason, 1_000),
    ...(isOver && { ended: now.getTime() }),
  }
}

/** Writes one grant, with the order that it gives; a wait is why the order cannot be given now. */
async function give(
  tx: Transaction<Database>,
  input: ApplyInput,
  row: RolloutRow,
  grant: NewGrant,
  now: Date,
): Promise<{ readonly machine: string; readonly ended: readonly string[] } | Wait> {
  const { rollout, host, machine, step, attempt, skipped } = grant
  const base = { rollout, host, step, attempt, machine, granted: now.getTime() }
  if (skipped !== undefined) {
    await insertSkipped(tx, base, skipped, now)
    return { machine: '', ended: [] }
  }
  if (step === 'prove' || step === 'soak') {
    await insertGrant(tx, { ...base, operation: '' })
    return { machine: '', ended: [] }
  }
  const action = actionOf(row, step)
  if (action?.word === 'rollback' && row.reverts !== '') return await takeBack(tx, input, row, grant, now)
  if (!action) {
    // An act of a cluster: its id is written first, and whoever comes after asks for it until it is known.
    const operation = step === 'drain' ? drainId(now, rollout) : operationId(now)
    await insertGrant(tx, { ...base, operation })
    return { machine: '', ended: [] }
  }
  return await order(tx, input, row, grant, action, now)
}

/** Back to what ran before the other rollout moved the host; where that moved it nowhere there is nothing to do. */
async function takeBack(
  tx: Transaction<Database>,
  input: ApplyInput,
  row: RolloutRow,
  grant: NewGrant,
  now: Date,
): Promise<{ readonly machine: string; readonly ended: readonly string[] } | Wait> {
  const moved = await tx
    .selectFrom('rollout_grants')
    .select('operation')
    .where('rollout', '=', row.reverts)
    .where('host', '=', grant.host)
    .where('step', '=', 'act')
    .where('outcome', '=', 'done')
    .orderBy('attempt', 'desc')
    .limit(1)
    .executeTakeFirst()
  if (moved) {
    const action = { word: 'rollback', to: moved.operation, before: true } as const
    return await order(tx, input, row, grant, action, now)
  }
  const { rollout, host, step, attempt, machine } = grant
  const base = { rollout, host, step, attempt, machine, granted: now.getTime() }
  await insertSkipped(tx, base, `rollout ${row.reverts} did not move it`, now)
  return { machine: '', ended: [] }
}

/** Gives the order of a step, by the one function that writes orders. */
async function order(
  tx: Transaction<Database>,
  { directory, lifetimeMs, ownMachine, backups }: ApplyInput,
  row: RolloutRow,
  { rollout, host, machine, step, attempt }: NewGrant,
  action: WantedAction,
  now: Date,
): Promise<{ readonly machine: string; readonly ended: readonly string[] } | Wait> {
  const base = { rollout, host, step, attempt, machine, granted: now.getTime() }
  const entry = directory.get(machine)
  if (!entry) return notNow('no machine is this host')
  const revision = needsRevision(action.word) ? await findRevision(tx, row.revision) : undefined
  const request = `${rollout}.${host}.${step}.${attempt}`
  const written = await writeOrders(
    tx,
    directory,
    {
      requestId: request,
      intent: request,
      action,
      machines: [{ ref: host, entry }],
      revision,
      actor: row.started_by,
      lifetimeMs,
      ownMachine,
      backup: backups.get(`${rollout} ${host}`),
    },
    now,
  )
  if (written.kind === 'refused') return notNow(written.problems.join('; '))
  const operations = written.kind === 'known' ? written.request.operations : written.operations
  const [operation] = operations
  if (operation === undefined) throw new Error(`order ${request} gave no operation`)
  await insertGrant(tx, { ...base, operation })
  return { machine, ended: written.kind === 'ordered' ? [...written.ended, operation] : [operation] }
}

function notNow(reason: string): Wait {
  return { gate: 'target', reason: cutText(reason, 500), opens: 'what stands in the way is gone' }
}

async function insertSkipped(
  tx: Transaction<Database>,
  base: Omit<Parameters<typeof insertGrant>[1], 'operation'>,
  reason: string,
  now: Date,
): Promise<void> {
  await tx
    .insertInto('rollout_grants')
    .values({ ...base, operation: '', closed: now.getTime(), outcome: 'skipped', reason })
    .execute()
}

/** What a step orders its node; undefined: a server of its cluster does it. */
export function actionOf(row: Pick<RolloutRow, 'action' | 'asked'>, step: string): WantedAction | undefined {
  if (step === 'prefetch') {
    if (row.action === 'upgrade') return { word: 'fetch' }
    return row.action === 'apply' ? { word: 'plan' } : undefined
  }
  if (step !== 'act') return undefined
  switch (row.action) {
    case 'apply':
    case 'upgrade':
      return { word: row.action }
    case 'reboot':
    case 'restart':
      return { word: row.action }
    case 'rollback': {
      const { rollback } = askedOf(row)
      return { word: 'rollback', to: rollback?.operationId ?? '', before: rollback?.before ?? false }
    }
    default:
      return undefined
  }
}

export function askedOf({ asked }: Pick<RolloutRow, 'asked'>): StartRolloutRequest {
  return fromBinary(StartRolloutRequestSchema, asked)
}

/** What went past a gate is on record as what an operator opens is: by whom it was asked for, and why it might. */
async function recordOpened(
  tx: Transaction<Database>,
  byId: ReadonlyMap<string, RolloutRow>,
  opened: Decision['opened'],
  refused: ReadonlyMap<string, Wait>,
  now: Date,
): Promise<void> {
  for (const { rollout, host, gate, why } of opened) {
    const row = byId.get(rollout)
    if (!row || refused.has(`${rollout} ${host}`)) continue
    await putOverride(tx, { rollout, host, gate, at: now.getTime(), by_whom: row.started_by, why })
    const reason = `rollout ${rollout} (${whatItDoes(row)}): gate ${gate} opened for ${host}: ${why}`
    await recordEvent(tx, { at: now, class: 'rollout', reason, actor: row.started_by })
  }
}

async function recordMoves(
  tx: Transaction<Database>,
  byId: ReadonlyMap<string, RolloutRow>,
  moves: readonly RolloutMove[],
  now: Date,
): Promise<void> {
  for (const { rollout, state, reason } of moves) {
    const row = byId.get(rollout)
    if (!row || row.state === state) continue
    await recordEvent(tx, {
      at: now,
      class: 'rollout',
      reason: `rollout ${rollout} (${whatItDoes(row)}): ${state}${reason === '' ? '' : `: ${reason}`}`,
      actor: 'coordinator',
    })
  }
}

/** Keeps what hosts wait for where it is other than before, so that a fleet that stands still writes nothing. */
async function writeWaits(
  tx: Transaction<Database>,
  rows: RolloutRows,
  decision: Decision,
  refused: ReadonlyMap<string, Wait>,
  now: Date,
): Promise<readonly string[]> {
  const changed = new Set<string>()
  for (const host of rows.hosts) {
    const known = decision.waits.get(host.rollout)
    if (!known) continue
    const wait = refused.get(`${host.rollout} ${host.host}`)
    const waits = wait ? [wait] : (known.get(host.host) ?? [])
    const before = waitsOfRow(host.waits)
    const text = waitsToRow(keepSince(before, waits, now.getTime()))
    if (text === host.waits) continue
    await writeHostRecord(tx, host, { waits: text })
    changed.add(host.rollout)
  }
  return [...changed]
}

/** Takes down how each host ended when its rollout is over: later rollouts are long, and this is looked up often. */
async function writeEnds(
  tx: Transaction<Database>,
  rows: RolloutRows,
  decision: Decision,
  now: Date,
): Promise<void> {
  const over = new Set(
    decision.moves
      .filter(({ state }) => state !== 'running' && state !== 'ending')
      .map(({ rollout }) => rollout),
  )
  if (over.size === 0) return
  const records = new Map(recordsAfter(rows, decision, now).map(record => [record.id, record]))
  for (const row of rows.hosts) {
    if (!over.has(row.rollout)) continue
    const record = records.get(row.rollout)
    const host = record?.hosts.find(one => one.host === row.host)
    if (!record || !host) continue
    await writeHostRecord(tx, row, { ended_as: endOf(record, host) })
  }
}

function endOf(record: RolloutRecord, host: RolloutRecord['hosts'][number]): string {
  const { kind } = progressOf(record, host)
  return kind === 'done' || kind === 'failed' ? kind : 'left'
}

/** The records as they are once these closings and grants are written. */
function recordsAfter(rows: RolloutRows, decision: Decision, now: Date): readonly RolloutRecord[] {
  const ends = new Map(decision.closings.map(({ grant, end }) => [grant, end]))
  const nowMs = now.getTime()
  const grants = rows.grants.map(row => {
    const end = ends.get(row.id)
    return end ? { ...row, closed: nowMs, outcome: end.outcome, reason: end.reason } : row
  })
  const added = decision.grants.map((grant, index) => ({
    id: Number.MAX_SAFE_INTEGER - decision.grants.length + index,
    rollout: grant.rollout,
    host: grant.host,
    step: grant.step,
    attempt: grant.attempt,
    machine: grant.machine,
    granted: nowMs,
    operation: '',
    closed: grant.skipped === undefined ? null : nowMs,
    outcome: grant.skipped === undefined ? '' : 'skipped',
    reason: grant.skipped ?? '',
  }))
  return readRecords({ ...rows, grants: [...grants, ...added] })
}

/** Acts that were granted and of which nobody knows yet: asked for again and again, by the id that was written first. */
export function wantedActs(rows: RolloutRows, known: ReadonlySet<string>): readonly WantedAct[] {
  const byId = new Map(rows.rollouts.map(row => [row.id, row]))
  const hosts = new Map(rows.hosts.map(host => [`${host.rollout} ${host.host}`, host]))
  return readRecords(rows).flatMap(record => {
    const row = byId.get(record.id)
    if (!row) return []
    return record.hosts.flatMap(host => {
      const kept = hosts.get(`${record.id} ${host.host}`)
      return host.grants.flatMap(grant => {
        if (grant.end || grant.operation === '' || known.has(grant.operation)) return []
        if (actionOf(row, grant.step) || !kept) return []
        return [
          {
            id: grant.operation,
            rollout: record.id,
            cluster: kept.cluster,
            host: host.host,
            step: grant.step,
            action: row.action,
            asked: grant.step === 'act' ? askedOfHost(askedOf(row), host.host) : undefined,
            drainLimitMs: host.drainLimitMs ?? record.settings.drainLimitMs,
            actor: row.started_by,
          },
        ]
      })
    })
  })
}
