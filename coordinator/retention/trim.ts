import { setImmediate } from 'node:timers/promises'
import type { Transaction } from 'kysely'
import type { Clock } from '../../shared/clock.ts'
import type { Logger } from '../../shared/log.ts'
import { deleteOldActs } from '../clusters/acts/act-store.ts'
import {
  countOperations,
  deleteLog,
  deleteOldEvents,
  deleteOldFacts,
  deleteOldOperations,
  deleteOldRequests,
  eventRange,
  pageLogs,
} from '../store/retention.ts'
import type { Store } from '../store/store.ts'
import type { Database } from '../store/tables.ts'
import { trimRollouts } from './trim-rollouts.ts'
import { type KeptLog, RETENTION, type RetentionPolicy, whatToDelete } from './what-to-delete.ts'

export interface RetentionDeps {
  readonly store: Store
  readonly clock: Clock
  readonly log: Logger
  readonly policy?: RetentionPolicy
}

/** Rows that one transaction takes. */
const BATCH = 500
const PAGE = 200

/**
 * Deletes what is too old or too much, in transactions of bounded size between which others have their turn. May be cut
 * off anywhere; the next run goes on. Says how many rows went.
 */
export async function trim(deps: RetentionDeps, signal: AbortSignal): Promise<number> {
  const { store, clock, log, policy = RETENTION } = deps
  const deletions = whatToDelete(
    policy,
    {
      events: await eventRange(store.db),
      operations: await countOperations(store.db),
      logs: await allLogs(store, signal),
    },
    clock.now(),
  )
  const { beforeMs, eventsUpTo } = deletions
  let total = 0
  const repeat = async (
    work: (tx: Transaction<Database>, limit: number) => Promise<number>,
    most = Infinity,
  ) => {
    for (let left = most; left > 0 && !signal.aborted; ) {
      const limit = Math.min(BATCH, left)
      const deleted = await store.transact(tx => work(tx, limit))
      total += deleted
      left -= deleted
      if (deleted < limit) return
      await setImmediate()
    }
  }
  for (const operation of deletions.logs) await repeat((tx, limit) => deleteLog(tx, operation, limit))
  await repeat((tx, limit) => deleteOldOperations(tx, { beforeMs, limit }))
  // Over the bound by number: the oldest, of whatever age.
  const all = { beforeMs: Number.MAX_SAFE_INTEGER }
  await repeat((tx, limit) => deleteOldOperations(tx, { ...all, limit }), deletions.operations)
  await repeat((tx, limit) => deleteOldEvents(tx, { upTo: eventsUpTo, beforeMs, limit }))
  await repeat((tx, limit) => deleteOldActs(tx, { beforeMs, limit }))
  await repeat((tx, limit) => deleteOldRequests(tx, { beforeMs, limit }))
  await repeat((tx, limit) => deleteOldFacts(tx, { beforeMs, limit }))
  total += await trimRollouts(store, beforeMs, signal)
  if (total > 0) log.info({ rows: total }, 'old records deleted')
  return total
}

async function allLogs(store: Store, signal: AbortSignal): Promise<KeptLog[]> {
  const logs: KeptLog[] = []
  for (let after = ''; !signal.aborted; ) {
    const page = await pageLogs(store.db, after, PAGE)
    logs.push(...page)
    const last = page.at(-1)
    if (!last || page.length < PAGE) break
    after = last.operation
    await setImmediate()
  }
  return logs
}
