/** Operators' orders by their ids, and the operation here that obeys or obeyed each. */
export type SeenOrders = ReadonlyMap<string, SeenOrder>

export interface SeenOrder {
  readonly expiresMs: number
  readonly operation: string
  /** What it asks for was done: it is never done again. */
  readonly done: boolean
}

/** People sign few orders; so many in a week are somebody's doing. */
export const MAX_ORDERS = 512
/** The node's clock may be set back by so much without an order that was obeyed becoming good again. */
const KEEP_MS = 24 * 60 * 60_000

export type Seeing =
  | { readonly kind: 'seen'; readonly orders: SeenOrders }
  | { readonly kind: 'refused'; readonly reason: string }

/** An order counts once: what was done for it is not done again. What failed may be tried again while the order is good. */
export function seeOrder(
  orders: SeenOrders,
  { id, ...seen }: SeenOrder & { readonly id: string },
  nowMs: number,
): Seeing {
  const known = orders.get(id)
  if (known?.done && !(seen.done && known.operation === seen.operation))
    return { kind: 'refused', reason: `this order was obeyed before, by operation ${known.operation}` }
  const left = [...orders].filter(([, each]) => each.expiresMs + KEEP_MS > nowMs)
  if (!known && left.length >= MAX_ORDERS) {
    return {
      kind: 'refused',
      reason: `${MAX_ORDERS} orders of operators are remembered here; the next can be obeyed when the first of them ends`,
    }
  }
  return { kind: 'seen', orders: new Map([...left, [id, seen]]) }
}

export function writeSeenOrders(orders: SeenOrders): string {
  return `${JSON.stringify({ orders: Object.fromEntries(orders) })}\n`
}

/** Reads what `writeSeenOrders` wrote; undefined: it is damaged, and nothing that is signed may be obeyed. */
export function readSeenOrders(text: string): SeenOrders | undefined {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null || !('orders' in value)) return undefined
  const { orders } = value
  if (typeof orders !== 'object' || orders === null || Array.isArray(orders)) return undefined
  const read = new Map<string, SeenOrder>()
  for (const [id, each] of Object.entries(orders)) {
    const order = readOrder(each)
    if (!order || !/^[0-9a-f]{32}$/.test(id)) return undefined
    read.set(id, order)
  }
  return read.size <= 2 * MAX_ORDERS ? read : undefined
}

function readOrder(value: unknown): SeenOrder | undefined {
  if (typeof value !== 'object' || value === null) return undefined
  if (!('expiresMs' in value) || !('operation' in value) || !('done' in value)) return undefined
  const { expiresMs, operation, done } = value
  if (typeof expiresMs !== 'number' || !Number.isSafeInteger(expiresMs)) return undefined
  return typeof operation === 'string' && typeof done === 'boolean'
    ? { expiresMs, operation, done }
    : undefined
}
