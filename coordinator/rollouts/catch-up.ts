import { create } from '@bufbuild/protobuf'
import { reasonOf } from '../../shared/errors.ts'
import { RolloutSettingsSchema, StartRolloutRequestSchema } from '../../shared/gen/muster/v1/rollout_pb.ts'
import type { Logger } from '../../shared/log.ts'
import type { Sessions } from '../sessions/sessions.ts'
import { findRevision } from '../store/revisions.ts'
import { leftBehind } from '../store/rollouts.ts'
import { AWAY_MS } from './api/start-rollout.ts'
import { type BeginDeps, beginRollout } from './begin-rollout.ts'
import { memberOfHost } from './members.ts'

/** Hosts that catch up in one run; the others follow. */
const MOST = 50

/**
 * Begins a rollout for each host that the last rollout which named it left behind and that is here now: it goes through the same gates as
 * everybody did. Says how many.
 */
export async function catchUp(
  deps: BeginDeps & { readonly sessions: Pick<Sessions, 'live'>; readonly log: Logger },
): Promise<number> {
  const { store, directory, sessions, log } = deps
  if (deps.halted() !== undefined) return 0
  let begun = 0
  for (const { rollout, host, revision } of await leftBehind(store.db)) {
    const machine = directory.machineOf(host)
    const session = machine === undefined ? undefined : sessions.live(machine)
    if (machine === undefined || !session || session.disputed || begun >= MOST) continue
    const found = await findRevision(store.db, revision)
    if (!found) continue
    try {
      await beginRollout(deps, {
        asked: create(StartRolloutRequestSchema, {
          requestId: `catch-up ${rollout} ${host}`.slice(0, 64),
          action: 'apply',
          revision: BigInt(revision),
          refs: [host],
          why: `catches up with rollout ${rollout}, which left it behind`,
          settings: create(RolloutSettingsSchema),
        }),
        action: 'apply',
        revision: { number: revision, digest: found.manifest.digest },
        members: [memberOfHost(directory, host, machine)],
        direct: false,
        prefetch: true,
        awayMs: AWAY_MS,
        startedBy: 'coordinator',
      })
      begun += 1
    } catch (error) {
      // Another rollout has it, or its cluster, now: it is looked at again when that is over.
      log.debug({ host, reason: reasonOf(error) }, 'host does not catch up yet')
    }
  }
  return begun
}
