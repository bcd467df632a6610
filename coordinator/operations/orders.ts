import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { Kysely, Transaction } from 'kysely'
import type { Clock } from '../../shared/clock.ts'
import type { OrderSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { findOperation, openOperations, silentOperations } from '../store/operations.ts'
import type { Store } from '../store/store.ts'
import type { Database } from '../store/tables.ts'
import type { ChangeFeed } from './change-feed.ts'
import { moveOperation, stateOf } from './move-operation.ts'
import { isPending, SILENCE_MS } from './transition.ts'

export interface OrderDeps {
  readonly store: Store
  readonly clock: Clock
  /** Told the id of each operation that changed. */
  readonly operationFeed: ChangeFeed
}

/**
 * Orders a machine should have now: those it has not spoken of and that have not expired. Sent again at every
 * connection until it does; the node knows an order it already has by its id.
 */
export async function pendingOrders(
  db: Kysely<Database>,
  machine: string,
  now: Date,
): Promise<MessageInitShape<typeof OrderSchema>[]> {
  const open = await openOperations(db, [machine])
  return open
    .filter(row => isPending(stateOf(row), now.getTime()))
    .map(row => ({
      operationId: row.id,
      revision: BigInt(row.revision),
      manifestDigest: row.manifest_digest,
      expires: timestampFromMs(row.expires),
    }))
}

/** Takes down that orders were written to the machine's session. */
export async function markDelivered(
  { store, clock, operationFeed }: OrderDeps,
  machine: string,
  operations: readonly string[],
): Promise<void> {
  const now = clock.now()
  await store.transact(async tx => {
    for (const id of operations) {
      const row = await findOperation(tx, id)
      if (row?.machine === machine) await moveOperation(tx, row, { kind: 'delivered' }, undefined, now)
    }
  })
  for (const id of operations) operationFeed.notify(id)
}

/**
 * Ends all open operations of a machine of which nobody will hear again, in the transaction that makes it so. Says
 * which, for the feed.
 */
export async function abandonOperations(
  tx: Transaction<Database>,
  machine: string,
  reason: string,
  now: Date,
): Promise<string[]> {
  const open = await openOperations(tx, [machine])
  for (const row of open) await moveOperation(tx, row, { kind: 'abandoned', reason }, undefined, now)
  return open.map(row => row.id)
}

const BATCH = 200

/** Ends the operations that the clock ended, in transactions of bounded size. Says how many. */
export async function expireOrders({ store, clock, operationFeed }: OrderDeps): Promise<number> {
  for (let total = 0; ; ) {
    const now = clock.now()
    const ended = await store.transact(async tx => {
      const rows = await silentOperations(tx, {
        expiredMs: now.getTime(),
        silentMs: now.getTime() - SILENCE_MS,
        limit: BATCH,
      })
      for (const row of rows) await moveOperation(tx, row, { kind: 'clock' }, undefined, now)
      return rows.map(row => row.id)
    })
    for (const id of ended) operationFeed.notify(id)
    total += ended.length
    if (ended.length < BATCH) return total
  }
}
