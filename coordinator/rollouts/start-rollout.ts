import { toBinary } from '@bufbuild/protobuf'
import type { Transaction } from 'kysely'
import { findCircle } from '../../shared/fleet-file/find-circle.ts'
import { type StartRolloutRequest, StartRolloutRequestSchema } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'
import { recordEvent } from '../store/events.ts'
import {
  changeRollout,
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
} from '../store/rollouts.ts'
import type { Database } from '../store/tables.ts'
import { settingsToRow } from './frozen-settings.ts'
import type { OrderedMember } from './members.ts'
import { gatedAction } from './plan/gate-table.ts'
import { progressOf } from './plan/host-steps.ts'
import type { FrozenSettings, RolloutAction } from './plan/rollout-record.ts'
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
  readonly settings: FrozenSettings
  readonly startedBy: string
  /** The rollout that it takes back; empty: none. */
  readonly reverts: string
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
  const problems = await problemsOf(tx, rollout, now)
  if (problems.length > 0) return { kind: 'refused', problems }
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
    why: rollout.asked.why.trim().slice(0, 1_000),
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
  await recordEvent(tx, {
    at: now,
    class: 'rollout',
    reason: `rollout ${row.id} (${whatItDoes(row)}) began with ${hosts.length} host${hosts.length === 1 ? '' : 's'}`,
    actor: rollout.startedBy,
  })
  return { kind: 'started', row }
}

/** Everything that stands against a rollout; those that give way to it are ended on the way. */
async function problemsOf(
  tx: Transaction<Database>,
  rollout: NewRollout,
  now: Date,
): Promise<readonly string[]> {
  const problems: string[] = []
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
    if (await givesWay(tx, id, rollout, now)) continue
    const what = hosts.includes(host) ? `host ${host}` : `cluster ${cluster}`
    problems.push(`rollout ${id} is not over and has ${what}; wait for it, abort it, or say --after ${id}`)
  }
  return problems
}

/** An order that only waits to be tried again gives way to what an operator orders now, as if it were over. */
async function givesWay(
  tx: Transaction<Database>,
  id: string,
  { startedBy, id: newer, action, asked, members }: NewRollout,
  now: Date,
): Promise<boolean> {
  const row = await findRollout(tx, id)
  if (!row) return true
  const rows = {
    rollouts: [row],
    hosts: await hostsOfRollouts(tx, [id]),
    grants: await grantsOfRollouts(tx, [id]),
    overrides: await overridesOfRollouts(tx, [id]),
  }
  const [record] = readRecords(rows)
  if (!record?.settings.direct) return false
  const ends = async () => {
    const reason = `${startedBy} ordered something else: rollout ${newer}`
    return await changeRollout(tx, row, {
      state: 'aborted',
      ends_as: 'aborted',
      reason,
      ended: now.getTime(),
    })
  }
  // Whoever was to leave by itself may be gone by now: that it is gone for good takes the place of the order before.
  const isGone = gatedAction({ action, how: howOfAct(action, asked.act) }) === 'leave-dead'
  const isSame = record.hosts.every(({ host }) => members.some(member => member.host === host))
  if (isGone && isSame && gatedAction(record) === 'leave') return await ends()
  const waits = record.hosts.every(host => {
    const progress = progressOf(record, host)
    const again = host.grants.some(({ end }) => end?.outcome === 'again')
    return (
      progress.kind === 'done' ||
      progress.kind === 'failed' ||
      (progress.kind === 'waiting' && !progress.open && again)
    )
  })
  return waits ? await ends() : false
}
