import { type ClusterRecord, emptyRecord, isServer, type MemberRole } from '../cluster-record.ts'
import type { ClusterSnapshot, MachineView, NodeData, Observation, ServerView } from '../cluster-snapshot.ts'

export const NOW = Date.UTC(2026, 10, 1)
export const AUTHORITY = 'a'.repeat(64)

/** What is different of one host than of one that has joined and is well. */
export interface HostChange {
  readonly role?: MemberRole
  readonly machine?: string | undefined
  readonly data?: NodeData
  readonly version?: string
  /** What its machine has; as `version` where it does not say. */
  readonly installed?: string | undefined
  readonly connected?: boolean
  readonly gone?: boolean
  /** When its session began; undefined: long ago. */
  readonly sinceMs?: number
  readonly occupied?: boolean
  readonly allowed?: readonly string[]
  /** How long ago it was observed; undefined in a key that is there: never. */
  readonly agoMs?: number | undefined
  /** As the servers see it. */
  readonly member?:
    | { readonly learner?: boolean; readonly healthy?: boolean; readonly leads?: boolean }
    | undefined
  readonly ready?: boolean | undefined
}

export const clusterData = (server: boolean, authority = AUTHORITY): NodeData => ({
  kind: 'cluster',
  authority,
  distribution: 'k3s',
  server,
})

/**
 * A cluster of three servers (a, b, c) and two workers (d, e) in which all is well, but for what `changes` says of each
 * host. Its machines are "m-" and the host's name.
 */
export function sampleSnapshot(
  changes: Readonly<Record<string, HostChange>> = {},
  recordChange: Partial<ClusterRecord> = {},
): ClusterSnapshot {
  const names = [...new Set(['a', 'b', 'c', 'd', 'e', ...Object.keys(changes)])].sort()
  const hosts = names.map(host => {
    const change = changes[host] ?? {}
    const role: MemberRole = change.role ?? (host < 'd' ? 'server' : 'worker')
    return { host, role, machine: 'machine' in change ? change.machine : `m-${host}` }
  })
  const view = serverView(changes, hosts)
  const machines = new Map<string, MachineView>()
  for (const { host, role, machine } of hosts) {
    if (machine === undefined) continue
    const change = changes[host] ?? {}
    const data = change.data ?? clusterData(isServer(role))
    const agoMs = 'agoMs' in change ? change.agoMs : 10_000
    const sees = isServer(role) && data.kind === 'cluster' && data.authority === AUTHORITY
    const observation: Observation | undefined =
      agoMs === undefined
        ? undefined
        : {
            asOfMs: NOW - agoMs,
            part: 'home',
            data,
            version: change.version ?? '1.34.3',
            installed: 'installed' in change ? change.installed : (change.version ?? '1.34.3'),
            view: sees ? view : undefined,
          }
    const { connected = true, sinceMs, gone = false, occupied = false, allowed } = change
    machines.set(machine, { connected, sinceMs, gone, occupied, allowed, observation })
  }
  return { distribution: 'k3s', hosts, record: { ...foundedRecord(), ...recordChange }, machines }
}

export function foundedRecord(): ClusterRecord {
  return {
    ...emptyRecord('home'),
    count: 1,
    founding: {
      state: 'founded',
      machine: 'm-a',
      host: 'a',
      operation: `${(0).toString(36).padStart(9, '0')}-home-1`,
      atMs: NOW - 3_600_000,
      attempt: 1,
      authority: AUTHORITY,
      adopted: false,
    },
    firstServer: 'm-a',
    settledMs: NOW - 3_000_000,
  }
}

function serverView(
  changes: Readonly<Record<string, HostChange>>,
  hosts: readonly { host: string; role: MemberRole }[],
): ServerView {
  const isOut = (change: HostChange) => change.data !== undefined && change.data.kind !== 'cluster'
  const members = hosts.flatMap(({ host, role }) => {
    const change = changes[host] ?? {}
    if ('member' in change) {
      if (!change.member) return []
      const { learner = false, healthy = true, leads = false } = change.member
      return [{ name: host, learner, healthy, leads }]
    }
    return isServer(role) && !isOut(change) ? [{ name: host, learner: false, healthy: true }] : []
  })
  const nodes = hosts.flatMap(({ host }) => {
    const change = changes[host] ?? {}
    const ready = 'ready' in change ? change.ready : isOut(change) ? undefined : true
    return ready === undefined
      ? []
      : [{ name: host, uid: `u-${host}`, ready, version: change.version ?? '1.34.3' }]
  })
  return { ready: true, members, nodes }
}
