import { setImmediate } from 'node:timers/promises'
import type { Kysely } from 'kysely'
import { CATCH_UP_REQUEST, lastForAll } from '../rollouts/who-is-behind.ts'
import {
  deleteSpentRollout,
  type OldRollout,
  pageEndedRollouts,
  type RolloutsInUse,
  upgradesInUse,
} from '../store/old-rollouts.ts'
import type { Store } from '../store/store.ts'
import type { Database } from '../store/tables.ts'

const PAGE = 100

/**
 * Deletes rollouts that ended long ago, the oldest first, each in a transaction of its own, and between them others have their turn. What is
 * the last word of a host stays, however old it is: what hosts should be, who was left behind and who failed is read from there. Says how
 * many went.
 */
export async function trimRollouts(
  store: Store,
  endedBeforeMs: number,
  signal: AbortSignal,
): Promise<number> {
  const inUse = await readInUse(store.db)
  let total = 0
  let after: OldRollout | undefined
  do {
    const page = await pageEndedRollouts(store.db, { endedBeforeMs, after, limit: PAGE })
    for (const old of page) {
      if (signal.aborted) return total
      const went = await store.transact(tx => deleteSpentRollout(tx, old, inUse, endedBeforeMs))
      if (went) total += 1
      await setImmediate()
    }
    after = page.length < PAGE ? undefined : page.at(-1)
  } while (after)
  return total
}

async function readInUse(db: Kysely<Database>): Promise<RolloutsInUse> {
  const last = await lastForAll(db)
  const upgrades = await upgradesInUse(db)
  return {
    ids: new Set([...(last ? [last.id] : []), ...upgrades.flatMap(({ ids }) => ids)]),
    revisions: new Set([...(last ? [last.revision] : []), ...upgrades.map(({ revision }) => revision)]),
    catchUp: CATCH_UP_REQUEST.together,
  }
}
