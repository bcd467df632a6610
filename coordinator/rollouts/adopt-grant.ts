import type { Transaction } from 'kysely'
import type { OrderClaim } from '../operations/node-claims.ts'
import {
  changeRollout,
  closeGrant,
  findRollout,
  grantsOfRollouts,
  hostsOfRollouts,
  insertGrant,
  type RolloutGrantRow,
} from '../store/rollouts.ts'
import type { Database } from '../store/tables.ts'
import { actionOf } from './apply-decision.ts'
import { isMove, stepsOf } from './plan/host-steps.ts'
import type { RolloutRecord, StepKind } from './plan/rollout-record.ts'
import { readRecords } from './read-record.ts'

const WHY = 'it was done before the store was set back, as its node tells'

/**
 * Takes down that a rollout had granted a step of which only the node knows: the store is older than that. The planner then reads it as
 * granted, and grants it no second time. What goes before the action is over where the action was begun. Nothing is taken down of a rollout
 * that is over, or that says something else, or where the step is granted already.
 */
export async function adoptGrant(tx: Transaction<Database>, claim: OrderClaim, now: Date): Promise<void> {
  const row = await findRollout(tx, claim.rollout.id)
  const { action, revision, host } = claim.rollout
  if (!row || row.ended !== null || row.action !== action || row.revision !== revision) return
  const hosts = (await hostsOfRollouts(tx, [row.id])).filter(one => one.host === host)
  const grants = (await grantsOfRollouts(tx, [row.id])).filter(one => one.host === host)
  const [record] = readRecords({ rollouts: [row], hosts, grants, overrides: [] })
  const [member] = record?.hosts ?? []
  if (!record || member?.machine !== claim.machine || !isMove(record.action)) return
  const step = (['act', 'prefetch'] as const).find(each => actionOf(row, each)?.word === claim.action)
  if (step === undefined || isGranted(grants, step)) return
  // Whatever was decided without it is void.
  if (!(await changeRollout(tx, row, {}))) throw new Error(`rollout ${row.id} was changed meanwhile`)
  const base = { rollout: row.id, host, machine: claim.machine, granted: claim.startedMs }
  if (step === 'act') {
    for (const before of stepsBefore(record, member)) {
      const open = grants.findLast(one => one.step === before && one.closed === null)
      const end = { outcome: 'done', reason: WHY, nowMs: now.getTime() }
      if (open) await closeGrant(tx, open.id, end)
      if (open || isGranted(grants, before)) continue
      await insertGrant(tx, { ...base, step: before, attempt: attemptOf(grants, before), operation: '' })
      const [added] = (await grantsOfRollouts(tx, [row.id])).filter(
        one => one.host === host && one.step === before && one.closed === null,
      )
      if (added) await closeGrant(tx, added.id, end)
    }
  }
  await insertGrant(tx, { ...base, step, attempt: attemptOf(grants, step), operation: claim.operation })
}

/** Under way, or over for good: what is only to be tried again is granted anew. */
function isGranted(grants: readonly RolloutGrantRow[], step: string): boolean {
  return grants.some(
    one => one.step === step && (one.closed === null || one.outcome === 'done' || one.outcome === 'skipped'),
  )
}

function stepsBefore(record: RolloutRecord, member: RolloutRecord['hosts'][number]): readonly StepKind[] {
  const steps = stepsOf(record, member)
  return steps.slice(0, steps.indexOf('act'))
}

function attemptOf(grants: readonly RolloutGrantRow[], step: string): number {
  return 1 + grants.reduce((most, one) => (one.step === step ? Math.max(most, one.attempt) : most), 0)
}
