import { whyNoSystem } from '../../shared/revision/foreign-system.ts'
import type { Assignment } from '../enrolment/assign.ts'
import { type DecidedAction, isChange, needsRevision, type WantedAction } from './order-action.ts'
import { newestChange, type PastOperation, reachedRevision } from './reached-revision.ts'

/** An operation of a machine without an outcome. */
export interface OpenOrder {
  readonly id: string
  readonly action: string
  readonly revision: number
  readonly rollbackTo: string
  readonly rollbackBefore: boolean
  /** A retry that waits for its time: it gives way to whatever an operator orders. */
  readonly waitingRetry: boolean
}

/** As much of a machine as it matters for ordering it something. */
export interface OrderCandidate {
  /** What the operator wrote, or the machine's id where a selector found it. */
  readonly ref: string
  readonly machine: string
  readonly state: string
  /** Why nothing is sent to the machine until a person looked; undefined: nothing is in the way. */
  readonly held: string | undefined
  /** Why the node obeys nothing but resume, retry and plan; undefined: it obeys. */
  readonly onHold: string | undefined
  readonly assignment: Assignment
  /** What the node says it may be ordered to do; undefined: it has not said. */
  readonly allowed: readonly string[] | undefined
  readonly open: readonly OpenOrder[]
  /** Its operations, newest first, as far as they are kept; only needed for a rollback. */
  readonly history: readonly PastOperation[]
  /** Its system is somebody else's by the revision asked for, and this is its cluster, or none: "". undefined: it is the fleet's. */
  readonly foreign: string | undefined
  /** The coordinator itself runs on it. */
  readonly isOwnHost: boolean
}

/** The revision asked for, as far as it decides who can take it. */
export interface OrderTarget {
  readonly revision: number
  readonly expires: Date
  readonly hosts: ReadonlySet<string>
  readonly groups: ReadonlySet<string>
}

export interface WantedOrder {
  readonly action: WantedAction
  /** With what goes to a revision. */
  readonly target: OrderTarget | undefined
  /** Floor of the newest revision: nodes refuse what is below it. 0: there is no revision. */
  readonly floor: number
}

export type OrderDecision =
  | {
      readonly kind: 'order'
      readonly machine: string
      /** Empty: it is none. */
      readonly host: string
      readonly action: DecidedAction
      /** What it is to reach; 0: none, or not known. */
      readonly revision: number
      /** Waiting retries that this order takes the place of. */
      readonly supersedes: readonly string[]
    }
  /** The machine has this very order already. */
  | { readonly kind: 'running'; readonly machine: string; readonly operation: string }

export type OrdersVerdict =
  | { readonly kind: 'ok'; readonly decisions: readonly OrderDecision[] }
  | { readonly kind: 'refused'; readonly problems: readonly string[] }

/** Whether all of these machines may be given an order: all of them or none, with every problem named. */
export function judgeOrders(
  wanted: WantedOrder,
  candidates: readonly OrderCandidate[],
  now: Date,
): OrdersVerdict {
  const problems = [...problemsOfTarget(wanted, now)]
  const decisions: OrderDecision[] = []
  const machines = new Map(candidates.map(candidate => [candidate.machine, candidate]))
  for (const candidate of machines.values()) {
    const decision = judgeOne(wanted, candidate)
    if (typeof decision === 'string') problems.push(`${candidate.ref}: ${decision}`)
    else decisions.push(decision)
    if (candidate.isOwnHost && machines.size > 1 && isChange(wanted.action.word)) {
      problems.push(
        `${candidate.ref}: the coordinator itself runs there; order the others first, then this one alone: a backup is made before`,
      )
    }
  }
  return problems.length > 0 ? { kind: 'refused', problems } : { kind: 'ok', decisions }
}

function* problemsOfTarget({ target, floor }: WantedOrder, now: Date): Iterable<string> {
  if (!target) return
  const { revision, expires } = target
  if (expires <= now) {
    yield `revision ${revision} expired at ${expires.toISOString()}; sign it anew with \`muster publish --renew\``
  }
  if (revision < floor) yield `revision ${revision} is below the fleet's floor ${floor}: nodes refuse it`
}

const OBEYED_ON_HOLD: readonly string[] = ['resume', 'retry', 'plan']

function judgeOne(wanted: WantedOrder, candidate: OrderCandidate): OrderDecision | string {
  const { machine, state, held, onHold, assignment } = candidate
  const { word } = wanted.action
  if (state !== 'active') return `is ${state}, not active`
  if (held !== undefined) return `is held (${held}) until an operator looked at it and released it`
  if (assignment.kind === 'conflict') return `is in conflict: ${assignment.reason}`
  if (assignment.kind === 'none') return `is no host: ${assignment.reason}`
  if (onHold !== undefined && !OBEYED_ON_HOLD.includes(word)) {
    return `is on hold (${onHold}); \`muster resume ${assignment.host}\` makes it obey again`
  }
  if (isChange(word) && candidate.allowed && !candidate.allowed.includes(word)) {
    return `its own configuration forbids ${word}: add it to services.muster.agent.allow there`
  }
  const decided = decide(wanted, candidate)
  if (typeof decided === 'string') return decided
  const { action, revision } = decided
  const same = candidate.open.find(order => !order.waitingRetry && isSame(order, action, revision))
  if (same) return { kind: 'running', machine, operation: same.id }
  const other = candidate.open.find(order => !order.waitingRetry && stands(order, word))
  if (other) return `operation ${other.id} (${inWords(other)}) is not done yet`
  const supersedes =
    isChange(word) || word === 'hold' ? candidate.open.filter(order => order.waitingRetry) : []
  return {
    kind: 'order',
    machine,
    host: assignment.host,
    action,
    revision,
    supersedes: supersedes.map(({ id }) => id),
  }
}

/** Fills in what the operator left open; a text is what stands against it. */
function decide(
  { action, target, floor }: WantedOrder,
  { assignment, history, foreign }: OrderCandidate,
): { readonly action: DecidedAction; readonly revision: number } | string {
  if (target) {
    if (assignment.kind !== 'host') return 'is no host'
    const { host, group } = assignment
    const has = group === '' ? target.hosts.has(host) : target.groups.has(group)
    if (!has) {
      return `revision ${target.revision} has no target for ${group === '' ? `host ${host}` : `group ${group}`}`
    }
    if (foreign !== undefined && (action.word === 'apply' || action.word === 'plan')) {
      return whyNoSystem(host, foreign)
    }
    return { action, revision: target.revision }
  }
  if (action.word !== 'rollback') return { action, revision: 0 }
  const newest = newestChange(history)
  const to = action.to === '' ? newest?.id : action.to
  const before = action.to === '' || action.before
  if (to === undefined) return 'no change of its system is known here, so there is nothing to go back from'
  if (!history.some(({ id }) => id === to)) {
    return `no operation ${to} of it is known here; \`muster operations\` lists them`
  }
  const revision = reachedRevision(history, { operation: to, before })
  if (revision !== undefined && revision < floor) {
    return `operation ${to} leads back to revision ${revision}, below the fleet's floor ${floor}: the node would refuse`
  }
  return { action: { word: 'rollback', to, before }, revision: revision ?? 0 }
}

/** Whether an open operation keeps another order out: changes are ordered one by one, the rest the node queues. */
function stands(open: OpenOrder, word: string): boolean {
  return isChange(word) && isChange(open.action)
}

function isSame(open: OpenOrder, action: DecidedAction, revision: number): boolean {
  if (open.action !== action.word) return false
  if (action.word === 'rollback') {
    return open.rollbackTo === action.to && open.rollbackBefore === action.before
  }
  return needsRevision(action.word) ? open.revision === revision : true
}

function inWords({ action, revision }: OpenOrder): string {
  return revision > 0 ? `${action} to revision ${revision}` : action
}
