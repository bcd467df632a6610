import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { Kysely } from 'kysely'
import { Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import {
  type Rollout,
  type RolloutHostSchema,
  RolloutHostState,
  RolloutSchema,
  RolloutState,
} from '../../shared/gen/muster/v1/rollout_pb.ts'
import { readTexts } from '../store/json.ts'
import { findOperations, type OperationRow, outcomeOf } from '../store/operations.ts'
import { grantsOfRollouts, hostsOfRollouts, overridesOfRollouts, type RolloutRow } from '../store/rollouts.ts'
import type { Database } from '../store/tables.ts'
import { describeSettings, settingsOfRow } from './frozen-settings.ts'
import { hasCordoned, isDisruptive, newestGrants, progressOf } from './plan/host-steps.ts'
import type { HostRecord, RolloutRecord } from './plan/rollout-record.ts'
import { type RolloutRows, readRecords, waitsOfRow } from './read-record.ts'

type HostInit = MessageInitShape<typeof RolloutHostSchema>

const STATES: Readonly<Record<string, RolloutState>> = {
  running: RolloutState.RUNNING,
  paused: RolloutState.PAUSED,
  ending: RolloutState.ENDING,
  succeeded: RolloutState.SUCCEEDED,
  failed: RolloutState.FAILED,
  aborted: RolloutState.ABORTED,
}

/** A rollout in one line, without its hosts; `counts` only where its rows were read. */
export function summariseRollout(row: RolloutRow) {
  return {
    id: row.id,
    action: row.action,
    revision: BigInt(row.revision),
    state: STATES[row.state] ?? RolloutState.UNSPECIFIED,
    reason: row.reason,
    startedBy: row.started_by,
    started: timestampFromMs(row.started),
    ...(row.ended === null ? {} : { ended: timestampFromMs(row.ended) }),
    why: row.why,
    reverts: row.reverts,
    after: [...readTexts(row.after)],
    settings: describeSettings(settingsOfRow(row.settings)),
  }
}

/** Rollouts with their hosts, or with nothing of them but how many are in each state. */
export async function describeRollouts(
  db: Kysely<Database>,
  rollouts: readonly RolloutRow[],
  detail: 'brief' | 'full',
  nowMs: number,
): Promise<Rollout[]> {
  const ids = rollouts.map(({ id }) => id)
  const rows: RolloutRows = {
    rollouts: rollouts.map(row => ({ ...row, state: openState(row.state) })),
    hosts: await hostsOfRollouts(db, ids),
    grants: await grantsOfRollouts(db, ids),
    overrides: await overridesOfRollouts(db, ids),
  }
  const records = new Map(readRecords(rows).map(record => [record.id, record]))
  const operations = new Map(
    detail === 'full'
      ? (
          await findOperations(
            db,
            rows.grants.map(({ operation }) => operation).filter(id => id !== ''),
          )
        ).map(row => [row.id, row])
      : [],
  )
  const hostRows = new Map(rows.hosts.map(host => [`${host.rollout} ${host.host}`, host]))
  return rollouts.map(row => {
    const record = records.get(row.id)
    if (!record) return create(RolloutSchema, summariseRollout(row))
    const isOver = row.ended !== null
    const hosts = record.hosts.map(host => {
      const kept = hostRows.get(`${record.id} ${host.host}`)
      return describeHost(rows, record, host, kept, operations, isOver)
    })
    const counts: Record<string, number> = {}
    for (const { state } of hosts) {
      const name = hostStateName(state ?? RolloutHostState.UNSPECIFIED)
      counts[name] = (counts[name] ?? 0) + 1
    }
    const expected = isOver ? undefined : expectedEnd(record, counts, nowMs)
    return create(RolloutSchema, {
      ...summariseRollout(row),
      ...(detail === 'full' && { hosts }),
      counts,
      size: hosts.length,
      ...(expected === undefined ? {} : { expectedEnd: timestampFromMs(Math.round(expected)) }),
    })
  })
}

/** The planner's words know no end. */
function openState(state: string): string {
  return state === 'running' || state === 'paused' ? state : 'ending'
}

export function hostStateName(state: RolloutHostState): string {
  const [name = ''] = Object.entries(RolloutHostState).find(([, value]) => value === state) ?? []
  return name.toLowerCase()
}

function describeHost(
  rows: RolloutRows,
  record: RolloutRecord,
  host: HostRecord,
  row: RolloutRows['hosts'][number] | undefined,
  operations: ReadonlyMap<string, OperationRow>,
  isOver: boolean,
): HostInit {
  const progress = progressOf(record, host)
  const newest = host.grants.at(-1)
  const acting = host.grants.findLast(
    ({ operation, step }) => operation !== '' && (step === 'act' || step === 'prefetch' || step === 'drain'),
  )
  const act = host.grants.findLast(({ operation, step }) => operation !== '' && step === 'act') ?? acting
  const operation = operations.get(act?.operation ?? '')
  const outcome = operation && outcomeOf(operation)
  const waits = isOver ? [] : waitsOfRow(row?.waits ?? '[]')
  const left = isOver || progress.kind === 'left' ? RolloutHostState.LEFT : undefined
  const state =
    progress.kind === 'done'
      ? RolloutHostState.DONE
      : progress.kind === 'failed'
        ? RolloutHostState.FAILED
        : (left ??
          (progress.kind === 'moving' || (newest?.end === undefined && newest !== undefined)
            ? RolloutHostState.MOVING
            : RolloutHostState.WAITING))
  const since = newest ? (newest.end?.atMs ?? newest.grantedMs) : record.startedMs
  const leftWhy = isOver
    ? waitsOfRow(row?.waits ?? '[]')
        .map(({ reason, opens }) => `${reason}, until ${opens}`)
        .join('; ')
    : ''
  return {
    host: host.host,
    machine: host.machine ?? '',
    cluster: host.cluster ?? '',
    role: row?.role ?? 'none',
    wave: (row?.position ?? 0) + 1,
    state,
    step: stepName(
      record.action,
      progress.kind === 'moving' || progress.kind === 'waiting' ? progress.next : newest?.step,
    ),
    since: timestampFromMs(since),
    waits: waits.map(({ gate, reason, opens, sinceMs }) => ({
      gate,
      reason,
      opens,
      since: timestampFromMs(sinceMs),
    })),
    operationId: act?.operation ?? '',
    phase: Object.values(Phase).find(phase => phase === operation?.phase) ?? Phase.UNSPECIFIED,
    reason:
      progress.kind === 'failed'
        ? progress.reason
        : progress.kind === 'done'
          ? whyNotGivenBack(host)
          : state === RolloutHostState.LEFT
            ? leftWhy
            : '',
    ...(outcome && { outcome }),
    overridden: rows.overrides
      .filter(one => one.rollout === record.id && one.host === host.host)
      .map(({ gate }) => gate),
  }
}

/** Why a host that was drained keeps its cordon, or has none of ours any more; empty: it was given back, or never drained. */
function whyNotGivenBack(host: HostRecord): string {
  const newest = newestGrants(host)
  const end = newest.get('uncordon')?.end
  return hasCordoned(newest) && end?.outcome === 'skipped' ? end.reason : ''
}

function stepName(action: string, step: string | undefined): string {
  return step === 'act' ? action : (step ?? '')
}

/**
 * By how long those that are done took. Only time counts in which some host was being moved: that all waited, as for a window, says nothing of
 * how long the others take. Nothing is said before any is done.
 */
function expectedEnd(
  record: RolloutRecord,
  counts: Readonly<Record<string, number>>,
  nowMs: number,
): number | undefined {
  const rest = (counts.waiting ?? 0) + (counts.moving ?? 0)
  let done = 0
  const moved: [fromMs: number, toMs: number][] = []
  for (const host of record.hosts) {
    const begun = host.grants.find(({ step, end }) => isDisruptive(step) && end?.outcome !== 'skipped')
    if (!begun) continue
    const progress = progressOf(record, host)
    if (progress.kind === 'done') done += 1
    const last = host.grants.at(-1)
    const isUnderWay = progress.kind === 'moving' || last?.end === undefined
    moved.push([begun.grantedMs, isUnderWay ? nowMs : (last?.end?.atMs ?? nowMs)])
  }
  if (done === 0 || rest === 0) return undefined
  return nowMs + (lengthOf(moved) / done) * rest
}

/** How much time these spans cover together. */
function lengthOf(spans: readonly (readonly [fromMs: number, toMs: number])[]): number {
  let length = 0
  let until = Number.NEGATIVE_INFINITY
  for (const [fromMs, toMs] of spans.toSorted(([a], [b]) => a - b)) {
    length += Math.max(0, toMs - Math.max(fromMs, until))
    until = Math.max(until, toMs)
  }
  return length
}
