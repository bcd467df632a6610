import type { Transaction } from 'kysely'
import type { Database } from './tables.ts'

/**
 * Forgets what a machine that was sent away said and failed at. What was decided about it stays: a founder, a join or a
 * leave is ended by the planner, in its order.
 */
export async function forgetInClusters(tx: Transaction<Database>, machine: string): Promise<void> {
  await tx.deleteFrom('cluster_nodes').where('machine', '=', machine).execute()
  await tx.deleteFrom('cluster_attempts').where('machine', '=', machine).execute()
}
