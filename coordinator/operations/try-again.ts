import type { Transaction } from 'kysely'
import { operationId } from '../../shared/ids.ts'
import { recordEvent } from '../store/events.ts'
import { findMachine } from '../store/machines.ts'
import {
  findOperation,
  insertOperations,
  type OperationRow,
  pastOperations,
  UNKNOWN_ORDERER,
} from '../store/operations.ts'
import type { Database } from '../store/tables.ts'
import { actionColumns } from './order-action.ts'
import type { OrderDeps } from './orders.ts'
import { retryUnconfirmed } from './retry-unconfirmed.ts'

const HISTORY = 50
export const ORDER_LIFETIME_MS = 3_600_000

/** Gives an order again that ended without fault of its target, in the transaction that took down the end. */
export async function tryAgain(
  { orderLifetimeMs = ORDER_LIFETIME_MS }: Pick<OrderDeps, 'orderLifetimeMs'>,
  tx: Transaction<Database>,
  row: OperationRow,
  now: Date,
): Promise<void> {
  if (row.ordered_by === UNKNOWN_ORDERER) return
  const ended = await findOperation(tx, row.id)
  if (!ended) return
  const history = (await pastOperations(tx, row.machine, HISTORY)).map(past => ({
    id: past.id,
    action: past.action,
    outcomeClass: past.outcome_class,
    retryOf: past.retry_of,
  }))
  const retry = retryUnconfirmed(history, row.id, now.getTime())
  if (retry.kind === 'none') return
  const machine = await findMachine(tx, row.machine)
  if (!machine || machine.held_since !== null) return
  const id = operationId(now)
  const actor = `coordinator: retry of ${row.id}`
  await insertOperations(tx, [
    {
      id,
      machine: row.machine,
      host: row.host,
      revision: row.revision,
      manifest_digest: row.manifest_digest,
      // After the one it tries again, also where both fall into one millisecond.
      ordered: Math.max(now.getTime(), row.ordered + 1),
      ordered_by: actor,
      expires: retry.notBefore + orderLifetimeMs,
      delivered: null,
      phase: 0,
      outcome: null,
      outcome_class: 0,
      ended: null,
      not_before: retry.notBefore,
      retry_of: row.id,
      ...actionColumns({ word: 'apply' }),
    },
  ])
  const at = new Date(retry.notBefore).toISOString()
  await recordEvent(tx, {
    at: now,
    class: 'ordered',
    machine: row.machine,
    host: row.host,
    reason: `operation ${id}: apply revision ${row.revision}, not before ${at}: try ${retry.attempt} after ${row.id}`,
    actor,
  })
}
