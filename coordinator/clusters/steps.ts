import {
  type Attempt,
  type ClusterRecord,
  isServer,
  type Join,
  type JoinEnd,
  type Leave,
  type MemberRole,
  nextOperation,
} from './cluster-record.ts'

/** What is to be written down next; orders follow from what is written (`ordersFor`). Each says why. */
export type Step =
  | { readonly kind: 'found'; readonly machine: string; readonly host: string; readonly why: string }
  | {
      readonly kind: 'mint'
      readonly machine: string
      readonly host: string
      readonly role: MemberRole
      readonly minter: string
      readonly why: string
    }
  | { readonly kind: 'end-join'; readonly operation: string; readonly end: JoinEnd; readonly why: string }
  /** Gives the deletion of a token to a server. */
  | {
      readonly kind: 'delete-token'
      readonly operation: string
      readonly server: string
      readonly why: string
    }
  /** The join is over, and nothing of it is left. */
  | { readonly kind: 'forget-join'; readonly operation: string; readonly why: string }
  | {
      readonly kind: 'clear'
      readonly host: string
      readonly machine: string
      readonly server: string
      readonly why: string
    }
  /** The server that was to take leftovers away is gone. */
  | { readonly kind: 'forget-clear'; readonly operation: string; readonly why: string }
  | { readonly kind: 'leave'; readonly request: string; readonly executor: string; readonly why: string }
  /** The attempt under way comes to nothing: who was to do it is gone. */
  | { readonly kind: 'retry-leave'; readonly request: string; readonly why: string }
  /** The host is another machine now: there is nothing to leave with. */
  | { readonly kind: 'forget-leave'; readonly request: string; readonly why: string }
  | { readonly kind: 'move-first'; readonly machine: string; readonly why: string }

/** How long a token lives, and with it the attempt to bring it to its machine. */
export const JOIN_LIFETIME_MS = 10 * 60_000

/** The record after a step. */
export function applyStep(record: ClusterRecord, step: Step, now: number): ClusterRecord {
  switch (step.kind) {
    case 'found': {
      const operation = nextOperation(record, now)
      const { machine, host } = step
      const attempt = (record.founding?.attempt ?? 0) + 1
      const founding = { state: 'ordered', machine, host, operation, atMs: now, attempt } as const
      const count = record.count + 1
      return { ...record, count, founding: { ...founding, authority: undefined, adopted: false } }
    }
    case 'mint': {
      const operation = nextOperation(record, now)
      const { machine, host, role, minter } = step
      const join: Join = {
        operation,
        machine,
        host,
        role,
        minter,
        atMs: now,
        expiresMs: now + JOIN_LIFETIME_MS,
        state: 'asked',
        joinedMs: undefined,
        tokenId: undefined,
        end: undefined,
        joinerDone: false,
        deleter: undefined,
        tokenGone: false,
      }
      const begun = noteMint(record, machine, record.count + 1)
      return { ...begun, count: record.count + 1, joins: [...record.joins, join] }
    }
    case 'end-join':
      return endJoin(record, step.operation, step.end, step.why, now)
    case 'delete-token':
      return changeJoin(record, step.operation, { deleter: step.server })
    case 'forget-join': {
      const join = record.joins.find(({ operation }) => operation === step.operation)
      if (!join) return record
      const joins = record.joins.filter(each => each !== join)
      return {
        ...noteOver(record, join.machine, now),
        joins,
        settledMs: isServer(join.role) ? now : record.settledMs,
      }
    }
    case 'clear': {
      const operation = nextOperation(record, now)
      const { host, machine, server } = step
      const clear = { operation, host, machine, server, atMs: now }
      return { ...record, count: record.count + 1, clears: [...record.clears, clear] }
    }
    case 'forget-clear':
      return { ...record, clears: record.clears.filter(c => c.operation !== step.operation), settledMs: now }
    case 'leave': {
      const attempt = { operation: nextOperation(record, now), executor: step.executor }
      return changeLeave({ ...record, count: record.count + 1 }, step.request, { attempt }, now)
    }
    case 'retry-leave':
      return changeLeave(record, step.request, { attempt: undefined }, now)
    case 'forget-leave':
      return { ...record, leaves: record.leaves.filter(({ request }) => request !== step.request) }
    case 'move-first':
      return { ...record, firstServer: step.machine }
  }
}

/** The record with some parts of a join changed; the very same one when nothing changes, so that nothing is written. */
export function changeJoin(record: ClusterRecord, operation: string, change: Partial<Join>): ClusterRecord {
  const join = record.joins.find(each => each.operation === operation)
  if (!join) return record
  const next = { ...join, ...change }
  const keys = Object.keys(change) as readonly (keyof Join)[]
  if (keys.every(key => next[key] === join[key])) return record
  return { ...record, joins: record.joins.map(each => (each === join ? next : each)) }
}

/** The record with some parts of a leave changed. When an attempt of a server ends, the members are counted anew. */
export function changeLeave(
  record: ClusterRecord,
  request: string,
  change: Partial<Leave>,
  now: number,
): ClusterRecord {
  const leave = record.leaves.find(each => each.request === request)
  if (!leave) return record
  const leaves = record.leaves.map(each => (each === leave ? { ...leave, ...change } : each))
  const ends = leave.server && leave.attempt !== undefined
  return { ...record, leaves, settledMs: ends ? now : record.settledMs }
}

const FIRST_RETRY_MS = 15_000
const LONGEST_RETRY_MS = 10 * 60_000

/** What failed is tried again later and later, without end: the machine may be mended at any time. */
export function noteFailure(
  record: ClusterRecord,
  machine: string,
  now: number,
  reason: string,
): ClusterRecord {
  const failures = (record.attempts.get(machine)?.failures ?? 0) + 1
  const notBeforeMs = now + retryAfterMs(failures)
  return noteAttempt(record, machine, { failures, notBeforeMs, overMs: now, reason })
}

/** How long to wait after so many failures in a row. */
export function retryAfterMs(failures: number): number {
  return Math.min(FIRST_RETRY_MS * 2 ** Math.min(failures - 1, 10), LONGEST_RETRY_MS)
}

/** An operation on the machine is over, and nothing is held against it. */
export function noteSuccess(record: ClusterRecord, machine: string, now: number): ClusterRecord {
  return noteAttempt(record, machine, { failures: 0, notBeforeMs: 0, overMs: now, reason: '' })
}

/** Something on the machine is over, however it ended: what was seen of it before counts no more. */
export function noteOver(record: ClusterRecord, machine: string, now: number): ClusterRecord {
  const { failures = 0, notBeforeMs = 0, reason = '' } = record.attempts.get(machine) ?? {}
  return noteAttempt(record, machine, { failures, notBeforeMs, reason, overMs: now })
}

/** A join of the machine is begun: whatever it then has of the cluster is of the datastore that there is. */
function noteMint(record: ClusterRecord, machine: string, count: number): ClusterRecord {
  const { failures = 0, notBeforeMs = 0, overMs = 0, reason = '' } = record.attempts.get(machine) ?? {}
  const attempt = { failures, notBeforeMs, overMs, reason, mintedAt: count }
  return { ...record, attempts: new Map(record.attempts).set(machine, attempt) }
}

function noteAttempt(
  record: ClusterRecord,
  machine: string,
  attempt: Omit<Attempt, 'mintedAt'>,
): ClusterRecord {
  const mintedAt = record.attempts.get(machine)?.mintedAt
  return { ...record, attempts: new Map(record.attempts).set(machine, { ...attempt, mintedAt }) }
}

function endJoin(
  record: ClusterRecord,
  operation: string,
  end: JoinEnd,
  why: string,
  now: number,
): ClusterRecord {
  const join = record.joins.find(each => each.operation === operation)
  if (!join || join.end !== undefined) return record
  const ended = changeJoin(record, operation, { end })
  if (end === 'withdrawn') return ended
  return end === 'joined' ? noteSuccess(ended, join.machine, now) : noteFailure(ended, join.machine, now, why)
}
