import { toBinary } from '@bufbuild/protobuf'
import type { Kysely, Transaction } from 'kysely'
import { cutText } from '../../shared/cut-text.ts'
import { findCircle } from '../../shared/fleet-file/find-circle.ts'
import { type StartRolloutRequest, StartRolloutRequestSchema } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'
import { aborted } from '../../shared/rpc/rpc-error.ts'
import { recordEvent } from '../store/events.ts'
import {
  changeRollout,
  closeGrant,
  countOpenRollouts,
  findRollout,
  findRolloutByRequest,
  grantsOfRollouts,
  hostsOfRollouts,
  insertRollout,
  MOST_OPEN,
  overridesOfRollouts,
  type RolloutRow,
  rolloutsTouching,
  writeHostRecord,
} from '../store/rollouts.ts'
import type { Database } from '../store/tables.ts'
import { settingsToRow } from './frozen-settings.ts'
import type { OrderedMember } from './members.ts'
import { gatedAction } from './plan/gate-table.ts'
import { hasCordoned, newestGrants, progressOf } from './plan/host-steps.ts'
import type { FrozenSettings, HostRecord, RolloutAction, RolloutRecord } from './plan/rollout-record.ts'
import { howOfAct, noteToRow, readRecords } from './read-record.ts'
import { whatItDoes } from './what-it-does.ts'

/** A rollout that is to begin, with everything decided that is frozen. */
export interface NewRollout {
  readonly id: string
  readonly asked: StartRolloutRequest
  readonly intent: string
  readonly action: RolloutAction
  readonly revision: number
  readonly manifestDigest: string
  readonly members: readonly OrderedMember[]
  /** Who is its canary because none of those that were asked for is in it; undefined: nobody has to be. */
  readonly standIn: string | undefined
  readonly settings: FrozenSettings
  readonly startedBy: string
  /** The rollout that it takes back; empty: none. */
  readonly reverts: string
  /** What is to be said of its settings; undefined: nothing. */
  readonly remark: string | undefined
}

export type StartedRollout =
  | { readonly kind: 'known'; readonly row: RolloutRow }
  | { readonly kind: 'started'; readonly row: RolloutRow }
  | { readonly kind: 'refused'; readonly problems: readonly string[] }

/** What was asked for, however its parts are ordered; the same request id with another intent is another rollout. */
export function intentOf(asked: StartRolloutRequest): string {
  const { requestId: _, refs, ...rest } = asked
  const bytes = toBinary(StartRolloutRequestSchema, {
    ...rest,
    requestId: '',
    refs: [...new Set(refs)].toSorted(),
  })
  return sha256Hex(bytes)
}

/** Judges and writes a rollout in the caller's transaction. Nothing is granted here: that is the planner's. */
export async function writeRollout(
  tx: Transaction<Database>,
  rollout: NewRollout,
  now: Date,
): Promise<StartedRollout> {
  const known = await findRolloutByRequest(tx, rollout.asked.requestId)
  if (known) return { kind: 'known', row: known }
  const { problems, giving } = await judgeRollout(tx, rollout)
  if (problems.length > 0) return { kind: 'refused', problems }
  for (const each of giving) await endGiving(tx, each, rollout, now)
  const row = {
    id: rollout.id,
    request: rollout.asked.requestId,
    intent: rollout.intent,
    action: rollout.action,
    asked: Buffer.from(toBinary(StartRolloutRequestSchema, rollout.asked)),
    revision: rollout.revision,
    manifest_digest: rollout.manifestDigest,
    settings: settingsToRow(rollout.settings),
    state: 'running',
    ends_as: '',
    reason: '',
    why: cutText(rollout.asked.why.trim(), 1_000),
    started: now.getTime(),
    started_by: rollout.startedBy,
    ended: null,
    reverts: rollout.reverts,
    after: JSON.stringify(rollout.asked.after),
    generation: 1,
  }
  const hosts = rollout.members.map((member, position) => ({
    rollout: rollout.id,
    host: member.host,
    machine: member.machine ?? '',
    cluster: member.cluster ?? '',
    role: member.role,
    position,
    record: noteToRow({
      canary: member.canary,
      after: member.after,
      drainLimitMs: member.drainLimitMs,
      boots: member.boots,
    }),
    waits: '[]',
    ended_as: '',
  }))
  await insertRollout(tx, row, hosts)
  const remark = rollout.remark === undefined ? '' : `; ${rollout.remark}`
  await recordEvent(tx, {
    at: now,
    class: 'rollout',
    reason: `rollout ${row.id} (${whatItDoes(row)}) began with ${hosts.length} host${hosts.length === 1 ? '' : 's'}${
      rollout.standIn === undefined
        ? ''
        : `; ${rollout.standIn} is its canary, for it has none of those that were asked for`
    }${remark}`,
    actor: rollout.startedBy,
  })
  return { kind: 'started', row }
}

/** A rollout that gives way to a new one, and how it ends by that. */
interface Giving {
  readonly row: RolloutRow
  readonly record: RolloutRecord
  readonly endsAs: 'aborted' | 'succeeded'
}

export interface JudgedRollout {
  /** Everything that stands against it. */
  readonly problems: readonly string[]
  readonly giving: readonly Giving[]
}

/** What stands against a rollout, and what gives way to it. Changes nothing: a dry run asks the same. */
export async function judgeRollout(tx: Kysely<Database>, rollout: NewRollout): Promise<JudgedRollout> {
  const problems: string[] = []
  const giving: Giving[] = []
  if ((await countOpenRollouts(tx)) >= MOST_OPEN) {
    problems.push(`${MOST_OPEN} rollouts are not over; end some before another is begun`)
  }
  for (const id of rollout.asked.after) {
    if (!(await findRollout(tx, id))) problems.push(`after: there is no rollout ${id}`)
  }
  const circle = findCircle(new Map(rollout.members.map(({ host, after }) => [host, after])))
  if (circle) problems.push(`after: leads in a circle: ${[...circle, circle[0]].join(' after ')}`)
  const hosts = rollout.members.map(({ host }) => host)
  const clusters = [...new Set(rollout.members.flatMap(({ cluster }) => cluster ?? []))]
  const touching = new Map<string, { readonly host: string; readonly cluster: string }>()
  for (const found of await rolloutsTouching(tx, hosts, clusters)) {
    // What waits for the other is begun when that is over.
    if (!rollout.asked.after.includes(found.rollout) && found.rollout !== rollout.reverts)
      touching.set(found.rollout, found)
  }
  for (const [id, { host, cluster }] of touching) {
    const way = await givesWay(tx, id, rollout)
    if (way === 'over') continue
    if (way !== 'stays') {
      giving.push(way)
      continue
    }
    const what = hosts.includes(host) ? `host ${host}` : `cluster ${cluster}`
    problems.push(`rollout ${id} is not over and has ${what}; wait for it, abort it, or say --after ${id}`)
  }
  return { problems, giving }
}

/**
 * An order that only waits to be tried again gives way to what an operator orders now, as if it were over. One that has done everything but
 * soak does so to what is about all of its hosts, which soak anew then, and to a way back.
 */
async function givesWay(
  tx: Kysely<Database>,
  id: string,
  { action, asked, members }: NewRollout,
): Promise<Giving | 'over' | 'stays'> {
  const row = await findRollout(tx, id)
  if (!row) return 'over'
  const rows = {
    rollouts: [row],
    hosts: await hostsOfRollouts(tx, [id]),
    grants: await grantsOfRollouts(tx, [id]),
    overrides: await overridesOfRollouts(tx, [id]),
  }
  const [record] = readRecords(rows)
  if (!record?.settings.direct) return 'stays'
  // Whoever was to leave by itself may be gone by now: that it is gone for good takes the place of the order before.
  const isGone = gatedAction({ action, how: howOfAct(action, asked.act) }) === 'leave-dead'
  const names = new Set(members.map(({ host }) => host))
  const isSame = record.hosts.every(({ host }) => names.has(host))
  if (isGone && isSame && gatedAction(record) === 'leave') return { row, record, endsAs: 'aborted' }
  if ((isSame || action === 'rollback') && record.hosts.every(host => isSoaked(record, host))) {
    return { row, record, endsAs: 'succeeded' }
  }
  const waits = record.hosts.every(host => {
    const progress = progressOf(record, host)
    const again = host.grants.some(({ end }) => end?.outcome === 'again')
    return (
      progress.kind === 'done' ||
      progress.kind === 'failed' ||
      (progress.kind === 'waiting' && !progress.open && again)
    )
  })
  return waits ? { row, record, endsAs: 'aborted' } : 'stays'
}

async function endGiving(
  tx: Transaction<Database>,
  { row, record, endsAs }: Giving,
  { startedBy, id: newer }: NewRollout,
  now: Date,
): Promise<void> {
  if (endsAs === 'succeeded') {
    for (const { host, grants } of record.hosts) {
      for (const { id: grant, end } of grants) {
        const reason = `rollout ${newer} has the host now`
        if (!end) await closeGrant(tx, grant, { outcome: 'skipped', reason, nowMs: now.getTime() })
      }
      await writeHostRecord(tx, { rollout: row.id, host }, { ended_as: 'done' })
    }
  }
  const change = {
    state: endsAs,
    ends_as: endsAs === 'aborted' ? endsAs : '',
    reason: `${startedBy} ordered something else: rollout ${newer}`,
    ended: now.getTime(),
  }
  if (!(await changeRollout(tx, row, change)))
    throw aborted(`rollout ${row.id} was changed meanwhile; try again`)
}

/** It is done, or would be after its soak: nothing of ours is left there to take back. */
function isSoaked(record: RolloutRecord, host: HostRecord): boolean {
  const progress = progressOf(record, host)
  if (progress.kind !== 'moving') return progress.kind === 'done'
  return progress.next === 'soak' && !progress.failed && !hasCordoned(newestGrants(host))
}
