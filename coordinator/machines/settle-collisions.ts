import type { Transaction } from 'kysely'
import { clearConditions, conditionsOf } from '../store/conditions.ts'
import { recordEvent } from '../store/events.ts'
import { bumpMachine, machinesWithSerial } from '../store/machines.ts'
import type { Database } from '../store/tables.ts'

const MAX_CLAIMANTS = 64

/**
 * A machine that was sent away is nobody's rival any more: those that collided with nobody else are free. Says whose
 * collision ended.
 */
export async function settleCollisions(
  tx: Transaction<Database>,
  serial: string,
  now: Date,
): Promise<readonly string[]> {
  if (serial === '') return []
  const claimants = await machinesWithSerial(tx, serial, MAX_CLAIMANTS)
  const settled: string[] = []
  for (const { id, disks_digest } of claimants) {
    const isContested = claimants.some(
      other => other.id !== id && disks_digest !== '' && other.disks_digest === disks_digest,
    )
    if (isContested) continue
    const conditions = await conditionsOf(tx, id)
    if (!conditions.some(condition => condition.class === 'collision')) continue
    await clearConditions(tx, id, ['collision'])
    await bumpMachine(tx, id)
    await recordEvent(tx, {
      at: now,
      class: 'released',
      machine: id,
      reason: 'the machine with the same hardware was sent away',
      actor: 'coordinator',
    })
    settled.push(id)
  }
  return settled
}
