import type { Clock } from '../../shared/clock.ts'
import { deletePending, stalePending } from '../store/machines.ts'
import type { Store } from '../store/store.ts'
import type { MachineDirectory } from './directory.ts'

export interface ForgetDeps {
  readonly store: Store
  readonly directory: MachineDirectory
  readonly clock: Clock
}

const BATCH = 200

/**
 * Forgets waiting machines that were not heard of for so long: a machine that still waits asks every few seconds, and
 * keys that strangers made up must not take the room of real ones for ever. Says how many.
 */
export async function forgetPending(
  { store, directory, clock }: ForgetDeps,
  afterMs: number,
): Promise<number> {
  for (let total = 0; ; ) {
    const beforeMs = clock.now().getTime() - afterMs
    const forgotten = await store.transact(async tx => {
      const ids = await stalePending(tx, beforeMs, BATCH)
      await deletePending(tx, ids)
      return ids
    })
    for (const id of forgotten) {
      directory.bind(id, undefined)
      directory.remove(id)
    }
    total += forgotten.length
    if (forgotten.length < BATCH) return total
  }
}
