import type { Assignment } from './assign.ts'

/** Which host a machine may be bound to as it was before, by its own word. */
export type Proposal =
  | { readonly kind: 'none' }
  | { readonly kind: 'host'; readonly host: string }
  | { readonly kind: 'conflict'; readonly host: string; readonly reason: string }

export interface Proposed {
  /** The host that it says it acted as; empty: it says none. */
  readonly actedAs: string
  /** What it is without that word. */
  readonly own: Assignment
  /** Why the fleet file rules that out; undefined: it does not. */
  readonly fault: string | undefined
  /** Machines that are that host already. */
  readonly claimants: readonly string[]
  /** Other machines that are no host and say the same. */
  readonly others: readonly string[]
}

/**
 * Whether what a machine says of itself may be shown to an operator as a host to bind it to. It binds nothing: a machine that was let in
 * could say any name. What is signed, and a machine that is that host, wins; where two say the same, nobody is proposed.
 */
export function proposeHost({ actedAs: host, own, fault, claimants, others }: Proposed): Proposal {
  if (host === '' || own.kind !== 'none') return { kind: 'none' }
  const conflict = (reason: string): Proposal => ({ kind: 'conflict', host, reason })
  const named = (ids: readonly string[]) =>
    ids
      .slice(0, 8)
      .map(id => id.slice(0, 12))
      .join(', ')
  if (claimants.length > 0) return conflict(`that is machine ${named(claimants)}`)
  if (fault !== undefined) return conflict(fault)
  if (others.length > 0) return conflict(`so does machine ${named(others)}`)
  return { kind: 'host', host }
}
