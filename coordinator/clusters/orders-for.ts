import { type ClusterRecord, isNamedBy, type MemberRole } from './cluster-record.ts'

/** An order that follows from the record; sent at each session's start and after each change, until it is answered. */
export type ClusterIntent =
  | { readonly kind: 'found'; readonly operation: string }
  | {
      readonly kind: 'mint'
      readonly operation: string
      readonly host: string
      readonly role: MemberRole
      readonly joiner: string
      readonly expiresMs: number
    }
  /** The joiner gets the secret, if one is at hand. */
  | { readonly kind: 'join'; readonly operation: string; readonly expiresMs: number; readonly server: string }
  /** Nothing of the operation may begin any more; the answer is how it ended. */
  | { readonly kind: 'stop'; readonly operation: string }
  | { readonly kind: 'delete'; readonly operation: string; readonly tokenId: string | undefined }
  | { readonly kind: 'clear'; readonly operation: string; readonly host: string; readonly joiner: string }
  | {
      readonly kind: 'leave'
      readonly operation: string
      readonly host: string
      /** The machine itself is not asked; this server takes it out. */
      readonly dead: boolean
      /** The operator's order that it follows from. */
      readonly request: string
      /** That order as it was signed, a serialised Envelope; undefined: it has no signature. */
      readonly signed: Uint8Array | undefined
    }

/** Everything that a machine is to be told now. What an operation was told does not change but by its end. */
export function ordersFor(record: ClusterRecord, machine: string): readonly ClusterIntent[] {
  const orders: ClusterIntent[] = []
  const { founding, joins, clears, leaves } = record
  // What is founded from a snapshot is the order of an act.
  if (
    founding?.state === 'ordered' &&
    founding.machine === machine &&
    isNamedBy(record, founding.operation)
  ) {
    orders.push({ kind: 'found', operation: founding.operation })
  }
  for (const join of joins) {
    const { operation, host, role, expiresMs, tokenId } = join
    if (join.end === undefined) {
      if (join.minter === machine && join.state === 'asked') {
        orders.push({ kind: 'mint', operation, host, role, joiner: join.machine, expiresMs })
      }
      if (join.machine === machine && (join.state === 'minted' || join.state === 'received')) {
        orders.push({ kind: 'join', operation, expiresMs, server: record.firstServer ?? join.minter })
      }
      continue
    }
    if (join.deleter === machine && !join.tokenGone) orders.push({ kind: 'delete', operation, tokenId })
    if (join.machine === machine && !join.joinerDone && join.state !== 'asked')
      orders.push({ kind: 'stop', operation })
  }
  for (const { operation, host, machine: joiner, server } of clears) {
    if (server === machine) orders.push({ kind: 'clear', operation, host, joiner })
  }
  for (const { host, attempt, request, machine: leaver, signed } of leaves) {
    if (attempt?.executor !== machine) continue
    const { operation } = attempt
    const dead = leaver !== machine
    orders.push({ kind: 'leave', operation, host, dead, request, signed: signed?.envelope })
  }
  return orders
}
