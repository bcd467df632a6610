import type { Verb } from '../config.ts'
import type { ClusterAction, ClusterOperation } from './cluster-operation.ts'

/** All of an order that the decision whether to take it rests on. */
export interface OrderView {
  readonly operation: string
  readonly cluster: string
  /** undefined: an action of a newer coordinator. */
  readonly action: ClusterAction | undefined
  /** undefined: it has none. */
  readonly expiresMs: number | undefined
  /** With a join: the secret came with it. */
  readonly hasSecret: boolean
}

/** What this node knows when an order arrives. */
export interface OrderContext {
  readonly nowMs: number
  /** What may be ordered here, by the node's own configuration. */
  readonly allow: readonly string[]
  /** Why the node obeys nothing; undefined: it does. */
  readonly held: string | undefined
  /** Why nothing may change this machine's cluster part just now; undefined: it may. */
  readonly busy: string | undefined
  /** Operations that are not over. */
  readonly open: number
  /** The operation is being worked on at this moment, whatever its record says. */
  readonly running: boolean
}

export type OrderDecision =
  /** It is not answered: it cannot be meant, or there is no room for it. */
  | { readonly kind: 'pass-over'; readonly reason: string }
  /** It is known, and what it came to is told again. */
  | { readonly kind: 'repeat' }
  /** It is written down, and then done. */
  | { readonly kind: 'take' }
  /** It is written down as over, and never done. */
  | { readonly kind: 'refuse'; readonly class: string; readonly reason: string }
  /** Its token goes, and none is minted for it any more. */
  | { readonly kind: 'bar' }

/** Operations that are not over; a coordinator has a few for a machine at once, and some hundred when it mints for many. */
export const MAX_OPEN = 256

/** Whether an order is taken. Says nothing of what it asks for: that is judged by the signed manifest when its turn comes. */
export function decideOrder(
  order: OrderView,
  known: ClusterOperation | undefined,
  context: OrderContext,
): OrderDecision {
  const { operation, action, expiresMs } = order
  if (!isOperationId(operation)) return passOver('its id is none')
  if (action === undefined) return passOver('it asks for something that this agent does not know')
  if (known && known.cluster !== order.cluster) return passOver('its id was used for another cluster')
  if (action === 'deleteSecret') return judgeDeletion(known, context)
  if (action === 'stop') {
    if (!known)
      return context.open >= MAX_OPEN ? crowded(context) : refuse('stopped', 'it was never begun here')
    // What was accepted and not begun never begins; the rest goes on, and says at its end how it went.
    return known.stage === 'accepted' && !context.running
      ? refuse('stopped', 'it was not begun yet')
      : { kind: 'repeat' }
  }
  if (known) {
    const same = known.action === action || known.action === 'stop' || known.action === 'deleteSecret'
    return same ? { kind: 'repeat' } : passOver('its id was used for something else')
  }
  if (context.open >= MAX_OPEN) return crowded(context)
  if (action === 'join' && !order.hasSecret) return passOver('the secret did not come with it')
  if (expiresMs === undefined) return refuse('expired', 'the order says no end')
  if (context.nowMs >= expiresMs) {
    return refuse('expired', `the order ended at ${new Date(expiresMs).toISOString()}`)
  }
  const verb = VERB_OF[action]
  if (verb !== undefined && !context.allow.includes(verb)) {
    return refuse(
      'not-allowed',
      `this node may not be ordered to ${verb} (option \`allow\` of its configuration)`,
    )
  }
  if (verb !== undefined && context.held !== undefined) {
    return refuse('held', `this node obeys no order: ${context.held}`)
  }
  if (CHANGES_MACHINE.has(action) && context.busy !== undefined) return refuse('busy', context.busy)
  return { kind: 'take' }
}

function judgeDeletion(known: ClusterOperation | undefined, context: OrderContext): OrderDecision {
  if (!known) return context.open >= MAX_OPEN ? crowded(context) : { kind: 'bar' }
  if (known.action !== 'mint' && known.action !== 'deleteSecret')
    return passOver('nothing was minted under its id')
  return known.token === 'deleted' ? { kind: 'repeat' } : { kind: 'bar' }
}

/** Whether what was found on disk at a start goes on, and if not what it came to. */
export type ResumeDecision =
  | { readonly kind: 'go-on' }
  | { readonly kind: 'end'; readonly class: string; readonly reason: string }
  | { readonly kind: 'over' }

export function decideResume(
  operation: ClusterOperation,
  expiresMs: number | undefined,
  nowMs: number,
): ResumeDecision {
  if (operation.stage === 'ended') return { kind: 'over' }
  if (operation.token !== 'kept' && operation.action === 'mint')
    return { kind: 'end', class: 'stopped', reason: 'its token was asked to be deleted' }
  if (operation.stage === 'begun') return { kind: 'go-on' }
  return expiresMs === undefined || nowMs >= expiresMs
    ? { kind: 'end', class: 'expired', reason: 'the order ended before it was begun' }
    : { kind: 'go-on' }
}

/** What the node's owner must have allowed; undefined: it only reads or only takes back. */
export const VERB_OF: Readonly<Record<ClusterAction, Verb | undefined>> = {
  found: 'join',
  mint: 'join',
  join: 'join',
  clearNode: 'join',
  adopt: 'join',
  manifests: 'join',
  standDown: 'join',
  drain: 'drain',
  uncordon: 'drain',
  leave: 'leave',
  snapshot: 'snapshot',
  restore: 'restore',
  rotate: 'rotate',
  kubeconfig: 'kubeconfig',
  wipe: 'wipe',
  deleteSecret: undefined,
  stop: undefined,
  certificates: undefined,
  snapshots: undefined,
}

/** What may not fall into the middle of a change of this machine's system. */
const CHANGES_MACHINE: ReadonlySet<ClusterAction> = new Set([
  'found',
  'join',
  'adopt',
  'leave',
  'restore',
  'rotate',
  'wipe',
  'standDown',
])

export const isOperationId = (text: string): boolean =>
  /^[A-Za-z0-9._-]{1,128}$/.test(text) && !/^\.+$/.test(text)

const refuse = (kind: string, reason: string): OrderDecision => ({ kind: 'refuse', class: kind, reason })
const passOver = (reason: string): OrderDecision => ({ kind: 'pass-over', reason })
const crowded = ({ open }: OrderContext) => passOver(`${open} operations are not over yet`)
