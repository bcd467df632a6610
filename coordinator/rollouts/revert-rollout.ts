import { create } from '@bufbuild/protobuf'
import { reasonOf } from '../../shared/errors.ts'
import { StartRolloutRequestSchema } from '../../shared/gen/muster/v1/rollout_pb.ts'
import type { Logger } from '../../shared/log.ts'
import { precondition } from '../../shared/rpc/rpc-error.ts'
import { grantsOfRollouts, hostsOfRollouts, type RolloutRow } from '../store/rollouts.ts'
import { failedRollouts } from '../store/unfinished-rollouts.ts'
import { type BeginDeps, beginRollout } from './begin-rollout.ts'
import { settingsOfRow } from './frozen-settings.ts'
import { memberOfHost } from './members.ts'

/** For so long after its end a rollout is taken back by its policy; who looks later has other things in mind. */
const DUE_FOR_MS = 24 * 60 * 60_000

/**
 * Begins what is to be taken back by its policy. Which rollouts these are is read from the store each time, so that a coordinator which
 * was killed after one had failed takes it back all the same.
 */
export async function beginDueReverts(deps: BeginDeps, log: Logger): Promise<void> {
  if (deps.halted() !== undefined) return
  for (const row of await failedRollouts(deps.store.db, deps.clock.now().getTime() - DUE_FOR_MS)) {
    if (settingsOfRow(row.settings).onFailure !== 'revert') continue
    try {
      await beginRevert(deps, row, {
        requestId: `revert ${row.id}`,
        startedBy: 'coordinator',
        why: `on-failure is revert: ${row.reason}`.slice(0, 1_000),
      })
    } catch (error) {
      // Another rollout has one of its hosts: that is over first.
      log.warn({ rollout: row.id, reason: reasonOf(error) }, 'rollout not taken back yet')
    }
  }
}

/**
 * Begins the rollout that takes another back: every host that it moved, or is moving, goes back to what ran before, under the same gates.
 * It waits until the other is over.
 */
export async function beginRevert(
  deps: BeginDeps,
  row: RolloutRow,
  by: { readonly requestId: string; readonly startedBy: string; readonly why: string },
): Promise<RolloutRow> {
  const { store, directory } = deps
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
  return await beginRollout(deps, {
    asked: create(StartRolloutRequestSchema, { requestId: by.requestId, action: 'rollback', why: by.why }),
    action: 'rollback',
    revision: undefined,
    members,
    direct: false,
    prefetch: false,
    awayMs: settings.awayMs,
    startedBy: by.startedBy,
    reverts: row.id,
  })
}
