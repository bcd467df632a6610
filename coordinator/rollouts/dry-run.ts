import { setImmediate } from 'node:timers/promises'
import type { MessageInitShape } from '@bufbuild/protobuf'
import type { PlannedHostSchema, RolloutSchema } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { precondition } from '../../shared/rpc/rpc-error.ts'
import { listProblems } from '../api/list-problems.ts'
import { type BeginDeps, type Beginning, prepareRollout, recordOfNew } from './begin-rollout.ts'
import { describeSettings } from './frozen-settings.ts'
import { knownPlans } from './known-plans.ts'
import { Foresight } from './plan/foresee.ts'
import { readSnapshot, type SnapshotDeps, snapshotOf } from './read-snapshot.ts'
import { judgeRollout } from './start-rollout.ts'

/** So long is thought at a stretch; agents and others have their turn in between. */
const STRETCH_MS = 20
/** What takes longer is told as far as it was thought through. */
const MOST_MS = 20_000

export interface Foreseen {
  readonly rollout: MessageInitShape<typeof RolloutSchema>
  readonly order: MessageInitShape<typeof PlannedHostSchema>[]
  readonly notThoughtThrough: number
}

/** The order of a rollout as it would be, with what is planned of each host, and every gate as it stands now. */
export async function dryRun(deps: BeginDeps & SnapshotDeps, beginning: Beginning): Promise<Foreseen> {
  const nowMs = deps.clock.now().getTime()
  const rollout = await prepareRollout(deps, beginning)
  const { problems } = await judgeRollout(deps.store.db, rollout)
  if (problems.length > 0) throw precondition(listProblems(problems))
  const record = recordOfNew(rollout, nowMs)
  const { snapshot: open } = await readSnapshot(deps, nowMs)
  const whole = await snapshotOf(deps, [...open.rollouts, record], nowMs)
  const plans = await knownPlans(deps.store.db, record, rollout.manifestDigest)
  const snapshot = {
    ...whole,
    rollouts: open.rollouts,
    operations: new Map([...whole.operations, ...plans.views]),
  }
  const foresight = new Foresight(snapshot, record, nowMs, plans.operations)
  const isWhole = await think(foresight)
  const clusters = new Map(record.hosts.map(({ host, cluster }) => [host, cluster]))
  return {
    rollout: {
      action: rollout.action,
      revision: BigInt(rollout.revision),
      settings: describeSettings(rollout.settings),
      size: rollout.members.length,
    },
    notThoughtThrough: isWhole ? 0 : foresight.left,
    order: foresight.order().map(({ host, wave, steps, waits, drained }) => {
      const cluster = clusters.get(host)
      const change = plans.changes.get(host)
      return {
        host,
        cluster: cluster ?? '',
        wave: wave ?? 0,
        steps: steps.map(step => (step === 'act' ? rollout.action : step)),
        waits: waits.map(({ gate, reason }) => `${gate}: ${reason}`),
        ...(change && { change }),
        ...(drained !== undefined && { drained }),
        noPlan: plans.missing.get(host) ?? '',
        version: snapshot.clusters.get(cluster ?? '')?.members.get(host)?.version ?? '',
        nextVersion: snapshot.hosts.get(host)?.versions.get(record.id) ?? '',
      }
    }),
  }
}

/** Whether everything was thought through in time. */
async function think(foresight: Foresight): Promise<boolean> {
  const began = performance.now()
  let breathed = began
  while (foresight.next()) {
    const now = performance.now()
    if (now - began > MOST_MS) return false
    if (now - breathed < STRETCH_MS) continue
    await setImmediate()
    breathed = performance.now()
  }
  return true
}
