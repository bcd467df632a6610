import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { Kysely, Transaction } from 'kysely'
import type { Clock } from '../../shared/clock.ts'
import type { OrderSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import type { Sessions } from '../sessions/sessions.ts'
import {
  findOperation,
  machinesWithDueOrders,
  openOperations,
  silentOperations,
} from '../store/operations.ts'
import { rolloutsOfOperations } from '../store/rollouts.ts'
import type { Store } from '../store/store.ts'
import type { Database } from '../store/tables.ts'
import type { ChangeFeed } from './change-feed.ts'
import { moveOperation, stateOf } from './move-operation.ts'
import type { NodeClaims } from './node-claims.ts'
import { actionOfRow, needsRevision } from './order-action.ts'
import { isPending, SILENCE_MS } from './transition.ts'

export interface OrderDeps {
  readonly store: Store
  readonly clock: Clock
  /** Told the id of each operation that changed. */
  readonly operationFeed: ChangeFeed
  /** How long an order may wait for its machine; absent: one hour. */
  readonly orderLifetimeMs?: number
  /** Told of operations that only their node knows. */
  readonly nodes?: Pick<NodeClaims, 'sawOrder' | 'sawOperation' | 'sawRollout'>
}

/**
 * Orders a machine should have now: those it has not spoken of, whose time has come and that have not expired. Sent again at every
 * connection until it does; the node knows an order it already has by its id.
 */
export async function pendingOrders(
  db: Kysely<Database>,
  machine: string,
  now: Date,
): Promise<MessageInitShape<typeof OrderSchema>[]> {
  const open = await openOperations(db, [machine])
  const pending = open.filter(row => isPending(stateOf(row), now.getTime()))
  const rollouts = await rolloutsOfOperations(
    db,
    pending.map(({ id }) => id),
  )
  return pending.map(row => {
    const rollout = rollouts.get(row.id)
    return {
      operationId: row.id,
      // A rollback's revision is what we believe it leads to; the node's own journal decides.
      revision: needsRevision(row.action) ? BigInt(row.revision) : 0n,
      manifestDigest: row.manifest_digest,
      expires: timestampFromMs(row.expires),
      action: actionOfRow(row),
      ...(rollout && { rollout: { ...rollout, revision: BigInt(rollout.revision), host: row.host } }),
    }
  })
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

const MAX_DUE = 1_000

/** Lets machines have the orders whose time has come; what is not taken stays due, so a cut-off run loses nothing. */
export async function wakeDue({
  store,
  clock,
  sessions,
}: Pick<OrderDeps, 'store' | 'clock'> & { readonly sessions: Pick<Sessions, 'wake'> }): Promise<number> {
  const machines = await machinesWithDueOrders(store.db, clock.now().getTime(), MAX_DUE)
  for (const machine of machines) sessions.wake(machine)
  return machines.length
}
