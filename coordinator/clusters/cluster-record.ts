import type { roles } from '../../shared/fleet-file/schema.ts'

export type { Distribution } from '../../shared/kubernetes/distributions.ts'
export type MemberRole = Exclude<(typeof roles)[number], 'none'>

/**
 * What the coordinator has written down of a cluster: decisions and what is under way, never what machines can be asked
 * for again. Times in milliseconds since 1970 by the coordinator's clock; operations are named as `nextOperation` says.
 */
export interface ClusterRecord {
  readonly name: string
  /** Grows with each operation begun; part of their names. */
  readonly count: number
  /** Who founds or founded it. Once it says "founded" nobody ever founds again. */
  readonly founding: Founding | undefined
  /** The machine whose server the others join at; moves when that one is gone. */
  readonly firstServer: string | undefined
  /** Under way, or over with a token that is not yet shown to be gone. */
  readonly joins: readonly Join[]
  /** Leftovers of reinstalled nodes that a server is taking away. */
  readonly clears: readonly Clear[]
  /** What operators asked for, until it is done. */
  readonly leaves: readonly Leave[]
  /** Hosts that left by an operator's word, and as which machine: they are not joined again by themselves. */
  readonly left: ReadonlyMap<string, string>
  /** By machine: what was done to it and what failed, and when it may be tried again. */
  readonly attempts: ReadonlyMap<string, Attempt>
  /** When the last change of the servers ended: what was seen of the datastore before counts no more. */
  readonly settledMs: number
  /** The count when its datastore was set back to a snapshot last; 0: it never was. */
  readonly setBackAt: number
}

export interface Founding {
  /** `failed`: the founder says that nothing came of it; `founded` is for good. */
  readonly state: 'ordered' | 'failed' | 'founded'
  readonly machine: string
  readonly host: string
  readonly operation: string
  readonly atMs: number
  /** From 1. */
  readonly attempt: number
  /** SHA-256 (hex) of the SubjectPublicKeyInfo of the cluster's authority; known once it is founded. */
  readonly authority: string | undefined
  /** It ran before and was adopted. */
  readonly adopted: boolean
}

export interface Join {
  readonly operation: string
  readonly machine: string
  readonly host: string
  readonly role: MemberRole
  /** The server that mints. */
  readonly minter: string
  readonly atMs: number
  readonly expiresMs: number
  /**
   * `asked`: the minter was told, and no secret has reached the joiner; `minted`: it may have; `received`: it has, and
   * goes on alone; `joined`: it says so, which a server has yet to show.
   */
  readonly state: 'asked' | 'minted' | 'received' | 'joined'
  /** When the joiner said that it has joined. */
  readonly joinedMs: number | undefined
  /** The public part of the token; undefined: not known. */
  readonly tokenId: string | undefined
  /** How it ended; undefined: it is under way. */
  readonly end: JoinEnd | undefined
  /** The joiner will do nothing more for it: it said so. */
  readonly joinerDone: boolean
  /** The server that is to delete the token. Set with the end. */
  readonly deleter: string | undefined
  /** A listing made after the deletion showed that it is gone. */
  readonly tokenGone: boolean
}

export type JoinEnd = 'joined' | 'failed' | 'expired' | 'withdrawn'

export interface Clear {
  readonly operation: string
  readonly host: string
  /** The machine that has the name now. */
  readonly machine: string
  /** The server that does it. */
  readonly server: string
  readonly atMs: number
}

export interface Leave {
  /** Names what the operator asked for; each attempt is an operation of its own. */
  readonly request: string
  readonly host: string
  /** The machine that leaves. */
  readonly machine: string
  /** It takes a member out of the datastore. */
  readonly server: boolean
  /** It is gone; a server that is left takes it out. */
  readonly dead: boolean
  /** The attempt under way; undefined: it waits for its turn. */
  readonly attempt: { readonly operation: string; readonly executor: string } | undefined
  readonly failures: number
  readonly notBeforeMs: number
  /** The operator's order, which each attempt carries; undefined: there is none. */
  readonly signed: { readonly envelope: Uint8Array; readonly untilMs: number } | undefined
  /** Why the last attempt came to nothing; empty: none did. */
  readonly reason: string
}

export interface Attempt {
  /** Failures in a row. */
  readonly failures: number
  readonly notBeforeMs: number
  /** Why the last one failed, in the machine's words; empty: it did not, or nobody said. */
  readonly reason: string
  /** When the last operation on it was over: what was seen of its disk before counts no more. */
  readonly overMs: number
  /** The count of the join that was begun for it last; absent: none was. */
  readonly mintedAt?: number | undefined
}

export function emptyRecord(name: string): ClusterRecord {
  return {
    name,
    count: 0,
    founding: undefined,
    firstServer: undefined,
    joins: [],
    clears: [],
    leaves: [],
    left: new Map(),
    attempts: new Map(),
    settledMs: 0,
    setBackAt: 0,
  }
}

/**
 * The name of the next operation. It holds the time, so that a store restored from an older copy, which counts from
 * where it was, never gives a name that some node's journal knows.
 */
export function nextOperation(record: ClusterRecord, now: number): string {
  return `${now.toString(36).padStart(9, '0')}-${record.name}-${record.count + 1}`
}

/** The record named this operation, so that what it left unfinished on a disk is ours. */
export function isNamedBy(record: ClusterRecord, operation: string): boolean {
  const [, name, count] = /^[0-9a-z]{9}-(.+)-([0-9]{1,15})$/.exec(operation) ?? []
  return name === record.name && Number(count) >= 1 && Number(count) <= record.count
}

/** A join of the machine is under way, or may be: what ended by its time still goes on alone where it was received. */
export function isJoining({ joins }: Pick<ClusterRecord, 'joins'>, machine: string): boolean {
  return joins.some(join => join.machine === machine && (join.end === undefined || !join.joinerDone))
}

/** The authority of a cluster that exists; undefined: it was not founded. */
export function authorityOf(record: ClusterRecord): string | undefined {
  return record.founding?.state === 'founded' ? record.founding.authority : undefined
}

export function isServer(role: MemberRole): boolean {
  return role !== 'worker'
}
