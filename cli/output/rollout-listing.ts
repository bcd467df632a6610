import {
  type GateWait,
  type HostLock,
  HostLockSchema,
  type HostPin,
  HostPinSchema,
  type Rollout,
  type RolloutHost,
  RolloutHostSchema,
  RolloutSchema,
} from '../../shared/gen/muster/v1/rollout_pb.ts'
import { millisOf } from '../../shared/time.ts'
import { hostWords, rolloutStateName, rolloutStyle, whatItDoes } from '../rollouts/rollout-words.ts'
import { ago } from './machine-listing.ts'
import { type PlainRecord, plainOf } from './plain.ts'
import type { Listing } from './show-list.ts'

export const ROLLOUT_FIELDS = [
  ...['id', 'action', 'revision', 'state', 'reason', 'startedBy', 'started', 'ended', 'why', 'reverts'],
  ...['after', 'settings', 'hosts', 'counts', 'size', 'expectedEnd'],
] as const
export const ROLLOUT_HOST_FIELDS = [
  ...['host', 'machine', 'cluster', 'role', 'wave', 'state', 'step', 'since', 'waits', 'operationId'],
  ...['phase', 'reason', 'outcome', 'overridden'],
] as const
export const LOCK_FIELDS = ['kind', 'host', 'revision', 'why', 'by', 'at', 'until'] as const

export function rolloutListing(now: Date): Listing<Rollout> {
  const at = now.getTime()
  return {
    fields: ROLLOUT_FIELDS,
    record: rollout => plainOf(RolloutSchema, rollout),
    empty: 'no rollouts',
    columns: [
      { title: 'ROLLOUT', text: ({ id }) => id },
      { title: 'WHAT', wraps: true, text: whatItDoes },
      {
        title: 'STATE',
        wraps: true,
        text: ({ state }) => rolloutStateName(state),
        style: ({ state }) => rolloutStyle(state),
      },
      { title: 'DONE', wraps: true, text: ({ counts, size }) => `${counts.done ?? 0}/${size}` },
      { title: 'FAILED', text: ({ counts }) => (counts.failed ? String(counts.failed) : '') },
      { title: 'LEFT', text: ({ counts }) => (counts.left ? String(counts.left) : '') },
      { title: 'AGE', text: ({ started }) => ago(millisOf(started), at) },
      { title: 'BY', text: ({ startedBy }) => startedBy },
      { title: 'WHY', wide: true, text: ({ why }) => why },
      { title: 'REASON', wraps: true, text: ({ reason }) => reason },
    ],
  }
}

/** A host, and one of the gates that hold it; undefined: none does. */
export interface HostAtGate {
  readonly host: RolloutHost
  readonly wait: GateWait | undefined
}

/** A line for each gate that holds a host, so that each has its time and what opens it. */
export function hostsAtGates(hosts: readonly RolloutHost[]): readonly HostAtGate[] {
  return hosts.flatMap((host): readonly HostAtGate[] =>
    host.waits.length === 0 ? [{ host, wait: undefined }] : host.waits.map(wait => ({ host, wait })),
  )
}

export function rolloutHostListing(now: Date): Listing<HostAtGate> {
  const at = now.getTime()
  return {
    fields: ROLLOUT_HOST_FIELDS,
    record: ({ host }) => plainOf(RolloutHostSchema, host),
    empty: 'no hosts',
    columns: [
      { title: 'HOST', wraps: true, text: ({ host }) => host.host },
      { title: 'CLUSTER', text: ({ host }) => host.cluster },
      { title: 'ROLE', text: ({ host: { role } }) => (role === 'none' ? '' : role) },
      { title: 'SINCE', text: ({ host, wait }) => ago(millisOf(wait?.since ?? host.since), at) },
      { title: 'STATE', wraps: true, text: ({ host, wait }) => hostWords(host, wait) },
      { title: 'OPENS WHEN', wraps: true, text: ({ wait }) => wait?.opens ?? '' },
      { title: 'OPERATION', wide: true, text: ({ host }) => host.operationId },
      { title: 'OVERRIDDEN', wide: true, text: ({ host }) => host.overridden.join(' ') },
    ],
  }
}

/** A lock or a pin, in one list. */
export type LockOrPin =
  | { readonly kind: 'lock'; readonly lock: HostLock }
  | { readonly kind: 'pin'; readonly pin: HostPin }

export function lockListing(now: Date): Listing<LockOrPin> {
  const at = now.getTime()
  const shared = (row: LockOrPin) => (row.kind === 'lock' ? row.lock : row.pin)
  const by = (row: LockOrPin) => (row.kind === 'lock' ? row.lock.lockedBy : row.pin.pinnedBy)
  return {
    fields: LOCK_FIELDS,
    record: (row): PlainRecord => {
      const plain = row.kind === 'lock' ? plainOf(HostLockSchema, row.lock) : plainOf(HostPinSchema, row.pin)
      return {
        kind: row.kind,
        host: shared(row).host,
        revision: row.kind === 'pin' ? Number(row.pin.revision) : null,
        why: shared(row).why,
        by: by(row),
        at: plain.at ?? null,
        until: row.kind === 'pin' ? (plain.until ?? null) : null,
      }
    },
    empty: 'no host is locked or pinned',
    columns: [
      { title: 'HOST', text: row => shared(row).host },
      {
        title: 'WHAT',
        text: row => (row.kind === 'lock' ? 'locked' : `pinned to revision ${row.pin.revision}`),
      },
      { title: 'WHY', wraps: true, text: row => shared(row).why },
      { title: 'BY', text: by },
      { title: 'AGE', text: row => ago(millisOf(shared(row).at), at) },
      {
        title: 'UNTIL',
        text: row => (row.kind === 'pin' ? new Date(millisOf(row.pin.until) ?? 0).toISOString() : ''),
      },
    ],
  }
}
