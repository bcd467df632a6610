import { type ClusterRecord, isServer, type Join, type Leave } from './cluster-record.ts'
import { changeJoin, changeLeave, noteFailure, noteOver, noteSuccess, retryAfterMs } from './steps.ts'

/** What a machine says of an operation; the words of `ClusterReport`. */
export type StepReport =
  | { readonly kind: 'minted'; readonly tokenId: string }
  | { readonly kind: 'received' }
  | { readonly kind: 'deleted' }
  | {
      readonly kind: 'ended'
      readonly done: boolean
      readonly authority: string
      /** Why it was not done, for people; absent: nobody said. */
      readonly reason?: string
      /** What people are to know of it though it was done; absent: nothing. */
      readonly told?: string
    }

export interface Absorbed {
  readonly record: ClusterRecord
  /** The reporter may forget its report. What only it can repeat is not acknowledged before it is of no more use. */
  readonly acknowledged: boolean
}

/**
 * The record after a report. A report counts only from the machine that was asked, for what it was asked, and changes
 * nothing the second time. What names nothing known is acknowledged: it is over here.
 */
export function absorbReport(
  record: ClusterRecord,
  from: string,
  operation: string,
  report: StepReport,
  now: number,
): Absorbed {
  const taken = (next: ClusterRecord): Absorbed => ({ record: next, acknowledged: true })
  const { founding } = record
  if (founding?.operation === operation && founding.machine === from) {
    return taken(report.kind === 'ended' ? endFounding(record, report, now) : record)
  }
  const join = record.joins.find(each => each.operation === operation)
  if (join) return absorbIntoJoin(record, join, from, report, now)
  const clear = record.clears.find(each => each.operation === operation)
  if (clear?.server === from && report.kind === 'ended') {
    const without = { ...record, clears: record.clears.filter(each => each !== clear), settledMs: now }
    return taken(report.done ? without : noteFailure(without, clear.machine, now, report.reason ?? ''))
  }
  const leave = record.leaves.find(each => each.attempt?.operation === operation)
  if (leave?.attempt?.executor === from && report.kind === 'ended') {
    return taken(endLeave(record, leave, report, now))
  }
  return taken(record)
}

function endFounding(
  record: ClusterRecord,
  report: Extract<StepReport, { kind: 'ended' }>,
  now: number,
): ClusterRecord {
  const { founding } = record
  if (founding?.state !== 'ordered') return record
  if (!report.done || report.authority === '') {
    const failed = noteFailure(record, founding.machine, now, report.reason ?? '')
    return { ...failed, founding: { ...founding, state: 'failed' } }
  }
  return {
    ...noteSuccess(record, founding.machine, now),
    founding: { ...founding, state: 'founded', authority: report.authority },
    firstServer: founding.machine,
    settledMs: now,
  }
}

function endLeave(
  record: ClusterRecord,
  leave: Leave,
  { done, reason = '' }: Extract<StepReport, { kind: 'ended' }>,
  now: number,
): ClusterRecord {
  if (!done) {
    const failures = leave.failures + 1
    const change = { attempt: undefined, failures, notBeforeMs: now + retryAfterMs(failures), reason }
    return changeLeave(noteOver(record, leave.machine, now), leave.request, change, now)
  }
  const left = new Map(record.left).set(leave.host, leave.machine)
  const leaves = record.leaves.filter(each => each !== leave)
  const settledMs = leave.server ? now : record.settledMs
  return noteSuccess({ ...record, leaves, left, settledMs }, leave.machine, now)
}

function absorbIntoJoin(
  record: ClusterRecord,
  join: Join,
  from: string,
  report: StepReport,
  now: number,
): Absorbed {
  const change = (next: Partial<Join>) => changeJoin(record, join.operation, next)
  // From here on it changes no members, and what they are is read anew.
  const over = (next: ClusterRecord) =>
    next !== record && isServer(join.role) ? { ...next, settledMs: now } : next
  switch (report.kind) {
    case 'minted': {
      if (from !== join.minter) return { record, acknowledged: true }
      // Kept by the minter until the joiner has it: here it is kept nowhere but in memory.
      const acknowledged = join.end !== undefined || join.state === 'received' || join.state === 'joined'
      const tokenId = join.tokenId ?? (report.tokenId === '' ? undefined : report.tokenId)
      // What ended is given to nobody, so that "asked" stays true: the joiner has nothing.
      const state = join.state === 'asked' && join.end === undefined ? 'minted' : join.state
      return { record: change({ tokenId, state }), acknowledged }
    }
    case 'received': {
      const fits = from === join.machine && join.state === 'minted'
      return { record: fits ? change({ state: 'received' }) : record, acknowledged: true }
    }
    case 'deleted': {
      const fits = from === join.deleter && join.end !== undefined
      return { record: fits ? over(change({ tokenGone: true })) : record, acknowledged: true }
    }
    case 'ended': {
      if (from === join.machine) {
        if (join.joinerDone) return { record, acknowledged: true }
        if (report.done) {
          const joined = change({ state: 'joined', joinerDone: true, joinedMs: now })
          return { record: over(joined), acknowledged: true }
        }
        const failed = over(change({ joinerDone: true, ...(join.end === undefined && { end: 'failed' }) }))
        const isNew = join.end === undefined
        return {
          record: isNew ? noteFailure(failed, join.machine, now, report.reason ?? '') : failed,
          acknowledged: true,
        }
      }
      // The minter would not, or could not.
      if (from === join.minter && join.state === 'asked' && join.end === undefined) {
        return {
          record: noteFailure(change({ end: 'failed' }), join.machine, now, report.reason ?? ''),
          acknowledged: true,
        }
      }
      return { record, acknowledged: true }
    }
  }
}
