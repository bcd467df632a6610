import { create } from '@bufbuild/protobuf'
import { cutText } from '../../shared/cut-text.ts'
import { reasonOf } from '../../shared/errors.ts'
import { StartRolloutRequestSchema } from '../../shared/gen/muster/v1/rollout_pb.ts'
import type { Logger } from '../../shared/log.ts'
import { precondition } from '../../shared/rpc/rpc-error.ts'
import { listProblems } from '../api/list-problems.ts'
import { hasEvent, recordEvent } from '../store/events.ts'
import { grantsOfRollouts, hostsOfRollouts, type RolloutRow } from '../store/rollouts.ts'
import { failedRollouts } from '../store/unfinished-rollouts.ts'
import { type BeginDeps, type Beginning, beginRollout, prepareRollout, recordOfNew } from './begin-rollout.ts'
import { settingsOfRow } from './frozen-settings.ts'
import { memberOfHost } from './members.ts'
import type { NewPending, PendingHosts } from './pending-hosts.ts'
import { type LeftAtOnce, leftAtOnce } from './plan/left-at-once.ts'
import { planRollouts } from './plan/plan-rollouts.ts'
import { readSnapshot, type SnapshotDeps, snapshotOf } from './read-snapshot.ts'

/** For so long after its end a rollout is taken back by its policy; who looks later has other things in mind. */
const DUE_FOR_MS = 24 * 60 * 60_000

export type DueReverts = BeginDeps & SnapshotDeps & { readonly log: Logger; readonly pending: PendingHosts }

/**
 * Begins what is to be taken back by its policy. Which rollouts these are is read from the store each time, so that a coordinator which
 * was killed after one had failed takes it back all the same. One of which no host could go back now is not begun before one can: it would
 * only leave them behind. The hosts and what holds them stand in `pending`, and once in the events.
 */
export async function beginDueReverts(deps: DueReverts): Promise<void> {
  const { store, clock, log, pending } = deps
  if (deps.halted() !== undefined) return
  const nowMs = clock.now().getTime()
  const waiting: NewPending[] = []
  for (const row of await failedRollouts(store.db, nowMs - DUE_FOR_MS)) {
    if (settingsOfRow(row.settings).onFailure !== 'revert') continue
    const by = {
      requestId: `revert ${row.id}`,
      startedBy: 'coordinator',
      why: cutText(`on-failure is revert: ${row.reason}`, 1_000),
    }
    try {
      const left = await whyVain(deps, row, by)
      if (left === undefined) await beginRevert(deps, row, by)
      else waiting.push(...left.map(one => pendingOf(row, one)))
    } catch (error) {
      // Another rollout has one of its hosts: that is over first.
      log.warn({ rollout: row.id, reason: reasonOf(error) }, 'rollout not taken back yet')
    }
  }
  const told = new Set(pending.all().flatMap(({ action, rollout }) => (action === 'rollback' ? rollout : [])))
  pending.take(['rollback'], waiting, nowMs)
  for (const id of new Set(waiting.map(({ rollout }) => rollout))) {
    if (!told.has(id)) await tellVain(deps, id, waiting)
  }
}

function pendingOf(row: RolloutRow, { host, machine, waits }: LeftAtOnce): NewPending {
  return { host, machine, action: 'rollback', revision: 0, rollout: row.id, behind: '', waits }
}

async function tellVain(
  { store, clock }: DueReverts,
  rollout: string,
  waiting: readonly NewPending[],
): Promise<void> {
  const problems = waiting.flatMap(({ host, rollout: of, waits }) =>
    of === rollout ? waits.map(({ reason, opens }) => `${host}: ${reason}, until ${opens}`) : [],
  )
  const reason = `rollout ${rollout}: on-failure is revert, and no host could go back: ${problems.join('; ')}`
  const event = { at: clock.now(), class: 'rollout', reason, actor: 'coordinator' }
  await store.transact(async tx => {
    // Whoever starts anew finds it again, and has nothing new to tell.
    if (await hasEvent(tx, event)) return
    await recordEvent(tx, event)
  })
}

interface RevertBy {
  readonly requestId: string
  readonly startedBy: string
  readonly why: string
}

/**
 * Begins the rollout that takes another back: every host that it moved, or is moving, goes back to what ran before, under the same gates.
 * It waits until the other is over.
 */
export async function beginRevert(deps: BeginDeps, row: RolloutRow, by: RevertBy): Promise<RolloutRow> {
  return await beginRollout(deps, await revertOf(deps, row, by))
}

/** Refuses what would only be left behind: none of its hosts can go back before a person opens what holds it. */
export async function refuseVainRevert(
  deps: BeginDeps & SnapshotDeps,
  row: RolloutRow,
  by: RevertBy,
): Promise<void> {
  const left = await whyVain(deps, row, by)
  if (left === undefined) return
  const problems = left.flatMap(({ host, waits }) =>
    waits.map(({ reason, opens }) => `${host}: ${reason}, until ${opens}`),
  )
  throw precondition(
    listProblems([`rollout ${row.id} cannot be taken back: no host could go back`, ...problems]),
  )
}

/** What holds each host of a way back where it would leave all of them behind; undefined: some could go. */
async function whyVain(
  deps: BeginDeps & SnapshotDeps,
  row: RolloutRow,
  by: RevertBy,
): Promise<readonly LeftAtOnce[] | undefined> {
  const nowMs = deps.clock.now().getTime()
  const record = recordOfNew(await prepareRollout(deps, await revertOf(deps, row, by)), nowMs)
  const { snapshot: open } = await readSnapshot(deps, nowMs)
  const whole = await snapshotOf(deps, [...open.rollouts, record], nowMs)
  const left = leftAtOnce(record, planRollouts(whole, nowMs))
  return left.length < record.hosts.length ? undefined : left
}

async function revertOf({ store, directory }: BeginDeps, row: RolloutRow, by: RevertBy): Promise<Beginning> {
  if (row.action !== 'apply') {
    throw precondition(`rollout ${row.id} is a ${row.action}: only one to a revision can be taken back`)
  }
  const grants = await grantsOfRollouts(store.db, [row.id])
  const moved = new Set(
    grants
      .filter(({ step, outcome }) => step === 'act' && outcome !== 'failed' && outcome !== 'again')
      .map(({ host }) => host),
  )
  if (moved.size === 0)
    throw precondition(`rollout ${row.id} moved no host, so there is nothing to take back`)
  const members = (await hostsOfRollouts(store.db, [row.id])).flatMap(({ host }) =>
    moved.has(host) ? [memberOfHost(directory, host, directory.machineOf(host))] : [],
  )
  const settings = settingsOfRow(row.settings)
  return {
    asked: create(StartRolloutRequestSchema, { requestId: by.requestId, action: 'rollback', why: by.why }),
    action: 'rollback',
    revision: undefined,
    members,
    direct: false,
    prefetch: false,
    awayMs: settings.awayMs,
    startedBy: by.startedBy,
    reverts: row.id,
  }
}
