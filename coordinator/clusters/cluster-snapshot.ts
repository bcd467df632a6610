import {
  authorityOf,
  type ClusterRecord,
  type Distribution,
  isServer,
  type MemberRole,
} from './cluster-record.ts'

import type { Reason } from './reasons.ts'
import { isOfDatastore } from './set-back.ts'

/** All that a decision about a cluster rests on. */
export interface ClusterSnapshot {
  readonly distribution: Distribution
  /** Its hosts by the newest revision, in order of their names. */
  readonly hosts: readonly WantedHost[]
  readonly record: ClusterRecord
  /** Every machine that a host is bound to or that the record names; one that is missing is not known. */
  readonly machines: ReadonlyMap<string, MachineView>
  /** An act of an operator that rebuilds servers is under way: nothing else changes them meanwhile. */
  readonly rebuilding?: Reason | undefined
  /**
   * Why nobody is let in or cleared away: the store was set back, so that who founded and who is joining may not be in it. Undefined: it
   * was not, or an operator has looked.
   */
  readonly halted?: string | undefined
  /**
   * Since when this process has not seen the first server live, or when it began to look; undefined: for ever. A
   * coordinator that was started just now has heard of nobody.
   */
  readonly firstAbsentMs?: number | undefined
}

export interface WantedHost {
  /** Also the name of its node. */
  readonly host: string
  readonly role: MemberRole
  /** The machine it is bound to. */
  readonly machine: string | undefined
  /** Why it can neither found, mint nor join as things are, whatever else holds; undefined: it can. */
  readonly barred?: Reason | undefined
}

export interface MachineView {
  /** It has a session. */
  readonly connected: boolean
  /** When that session began, by the coordinator's clock: what was seen before may be of another boot. */
  readonly sinceMs?: number | undefined
  /** Evicted or banned: by an operator's word it never comes back as what it was. */
  readonly gone: boolean
  /** It obeys no order, or something else is being done to it. */
  readonly occupied: boolean
  /** What its agent takes orders for, as it said; undefined: it never said. */
  readonly allowed?: readonly string[] | undefined
  readonly observation: Observation | undefined
}

/** The newest that a machine said of itself. */
export interface Observation {
  /**
   * It was observed after this instant of the coordinator's clock: when the question was sent that it answers. No clock of
   * a machine and no delay of a message makes it look newer than it is.
   */
  readonly asOfMs: number
  /** The cluster that its running system is made for; empty: its system has no Kubernetes part. */
  readonly part: string
  readonly data: NodeData
  /** The Kubernetes that runs; undefined: none. */
  readonly version: string | undefined
  /** What its server sees; undefined: it is no server, or it does not answer. */
  readonly view: ServerView | undefined
  /** Its address within the cluster, as it says itself; not kept over a restart. */
  readonly address?: string | undefined
  /** Its machine id as it was when this was said; not kept over a restart. */
  readonly machineId?: string | undefined
  /** The boot in which this was said; not kept over a restart. */
  readonly bootId?: string | undefined
  /** When the kubelet that runs was started, by the machine's own clock; not kept over a restart. */
  readonly kubeletStartedMs?: number | undefined
  /** The Kubernetes that it has, whether it runs or not; not kept over a restart. */
  readonly installed?: string | undefined
  /** When its certificates end; undefined: not said yet. Not kept over a restart. */
  readonly certificates?: CertificateEnds | undefined
  /** Snapshots of the cluster's datastore that lie on a server without data; not kept over a restart. */
  readonly snapshots?: readonly string[] | undefined
}

/** What a node says of its certificates in its cluster. */
export type CertificateEnds =
  /** Of each kind the one that ends first. */
  | { readonly kind: 'read'; readonly soonest: readonly SoonestEnd[] }
  | { readonly kind: 'unreadable'; readonly reason: string }

export interface SoonestEnd {
  /**
   * `ordered`: an order or a start of what uses it makes it anew; `renewed`: its kubelet does so by itself; `self-signed`: its kubelet
   * does so at a start when it is missing; `authority`: an authority's own.
   */
  readonly kind: 'ordered' | 'renewed' | 'self-signed' | 'authority'
  readonly path: string
  readonly beganMs: number
  readonly endsMs: number
}

export type NodeData =
  | { readonly kind: 'none' }
  | {
      readonly kind: 'cluster'
      readonly authority: string
      readonly distribution: string
      readonly server: boolean
    }
  /** Begun by an operation of ours and not finished. */
  | { readonly kind: 'unfinished'; readonly operation: string }
  | { readonly kind: 'unreadable'; readonly reason: string }
  /** A server that has been a member, without its datastore: it neither serves nor founds nor joins. */
  | {
      readonly kind: 'lost'
      readonly authority: string
      readonly distribution: string
      /** Where its datastore should be. */
      readonly path: string
    }

export interface ServerView {
  readonly ready: boolean
  readonly members: readonly DatastoreMember[]
  readonly nodes: readonly NodeObject[]
}

export interface DatastoreMember {
  /** Empty: it was added and has not started. */
  readonly name: string
  /** Has no vote, and never counts. */
  readonly learner: boolean
  readonly healthy: boolean
  /** It leads the datastore, as the server said that saw it. Where none does, that is not known. */
  readonly leads?: boolean
}

export interface NodeObject {
  readonly name: string
  /** Empty: only a node password is left under this name. */
  readonly uid: string
  readonly ready: boolean
  readonly version: string
  /** When its kubelet last renewed its lease, by the node's own clock; undefined: never, or nobody says. */
  readonly renewedMs?: number | undefined
  /** That renewal was after this instant of the coordinator's clock, by the answers of this server; undefined: nobody can say. */
  readonly renewedAfterMs?: number | undefined
  /** The boot in which its kubelet last spoke of it; undefined: it does not say. */
  readonly bootId?: string | undefined
  /** It takes no new pods, whoever cordoned it; undefined: nobody says. */
  readonly unschedulable?: boolean | undefined
  /** The act of ours whose mark is on it; undefined: none. */
  readonly cordonedBy?: string | undefined
}

/** An observation counts as fresh for so long; machines are asked several times within it. */
export const FRESH_MS = 90_000

/** What a machine says of itself, when it is connected and said it just now, in this session. */
export function freshObservation(
  { machines }: ClusterSnapshot,
  machine: string | undefined,
  now: number,
): Observation | undefined {
  const view = machine === undefined ? undefined : machines.get(machine)
  if (!view?.connected || view.gone || !view.observation) return undefined
  if (view.observation.asOfMs < (view.sinceMs ?? Number.NEGATIVE_INFINITY)) return undefined
  return now - view.observation.asOfMs <= FRESH_MS ? view.observation : undefined
}

/** The same, and seen after whatever was done to the machine was over: by this alone something is done to it again. */
export function settledObservation(
  snapshot: ClusterSnapshot,
  machine: string | undefined,
  now: number,
): Observation | undefined {
  const seen = freshObservation(snapshot, machine, now)
  const overMs = snapshot.record.attempts.get(machine ?? '')?.overMs ?? Number.NEGATIVE_INFINITY
  return seen && seen.asOfMs > overMs ? seen : undefined
}

/** The machine belongs to this cluster by the data on its disk. */
export function belongs({ record }: ClusterSnapshot, data: NodeData): boolean {
  return data.kind === 'cluster' && data.authority === authorityOf(record)
}

/** It was a server of this cluster, and lost its datastore alone. */
export function hasLostDatastore({ record }: ClusterSnapshot, data: NodeData | undefined): boolean {
  return data?.kind === 'lost' && data.authority === authorityOf(record)
}

export interface LiveServer {
  readonly machine: string
  readonly host: string
  readonly asOfMs: number
  readonly view: ServerView
}

/**
 * Servers that answer and can be asked to do something: the first one first, the others in order of their hosts. As each was
 * seen after the last thing that was done to it, be it a join, a leave or a restore.
 */
export function liveServers(snapshot: ClusterSnapshot, now: number): readonly LiveServer[] {
  const { record, machines, hosts } = snapshot
  const live: LiveServer[] = []
  for (const { host, role, machine } of hosts) {
    const seen = settledObservation(snapshot, machine, now)
    if (machine === undefined || !isServer(role) || !seen?.view?.ready || !belongs(snapshot, seen.data))
      continue
    if (machines.get(machine)?.occupied || record.leaves.some(leave => leave.machine === machine)) continue
    // One that was taken out as dead and lives after all does not know that it is no member any more.
    if (record.left.get(host) === machine) continue
    // Nor does one that serves what there was before the datastore was set back.
    if (!isOfDatastore(record, machine)) continue
    live.push({ machine, host, asOfMs: seen.asOfMs, view: seen.view })
  }
  return live.sort(
    (a, b) => Number(b.machine === record.firstServer) - Number(a.machine === record.firstServer),
  )
}

export type ViewReading =
  | { readonly kind: 'read'; readonly view: ServerView }
  | { readonly kind: 'unknown'; readonly reason: Reason }

/**
 * The newest view of a live server that knows the members of the datastore. What was seen before the last change of
 * servers says nothing: the members are counted anew after each.
 */
export function newestView(snapshot: ClusterSnapshot, now: number): ViewReading {
  const able = liveServers(snapshot, now).filter(({ view }) => view.members.length > 0)
  if (able.length === 0) return { kind: 'unknown', reason: { gate: 'no-server' } }
  const newest = able.reduce((best, next) => (next.asOfMs > best.asOfMs ? next : best))
  if (newest.asOfMs <= snapshot.record.settledMs) return { kind: 'unknown', reason: { gate: 'recount' } }
  return { kind: 'read', view: newest.view }
}
