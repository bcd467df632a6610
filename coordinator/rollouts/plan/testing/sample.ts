import type { FrozenSettings, Grant, HostRecord, RolloutRecord } from '../rollout-record.ts'
import type { HostView, RolloutSnapshot } from '../rollout-snapshot.ts'

/** A host outside of clusters that is well. */
export function sampleHost(host: string, change: Partial<HostView> = {}): HostView {
  return {
    host,
    machine: `machine-${host}`,
    cluster: undefined,
    server: false,
    labels: {},
    connected: true,
    awaySinceMs: undefined,
    connectedSinceMs: 0,
    held: undefined,
    busyWith: undefined,
    quarantined: new Set(),
    lock: undefined,
    pin: undefined,
    windows: [],
    refused: new Map(),
    versions: new Map(),
    ...change,
  }
}

export function sampleRollout(input: {
  readonly id?: string
  readonly hosts: readonly HostView[]
  readonly canaries?: readonly string[]
  readonly grants?: Readonly<Record<string, readonly Grant[]>>
  readonly settings?: Partial<FrozenSettings>
  readonly change?: Partial<RolloutRecord>
}): RolloutRecord {
  const { hosts, canaries = [], grants = {}, settings } = input
  return {
    id: input.id ?? 'r1',
    action: 'apply',
    revision: 1,
    state: 'running',
    endsAs: undefined,
    startedMs: 0,
    settings: {
      maxUnavailable: { kind: 'number', number: 1 },
      maxUnavailableAlone: { kind: 'number', number: 1 },
      soakMs: 60_000,
      canarySoakMs: 60_000,
      onFailure: 'stop',
      maxFailures: undefined,
      spread: undefined,
      drainLimitMs: 300_000,
      prefetch: false,
      direct: false,
      awayMs: 600_000,
      ...settings,
    },
    after: [],
    reverts: undefined,
    hosts: hosts.map(
      ({ host, machine, cluster, server }): HostRecord => ({
        host,
        machine,
        cluster,
        server,
        canary: canaries.includes(host),
        after: [],
        drainLimitMs: undefined,
        grants: grants[host] ?? [],
      }),
    ),
    overrides: new Set(),
    ...input.change,
  }
}

export function sampleSnapshot(
  input: Omit<Partial<RolloutSnapshot>, 'hosts'> & { readonly hosts: readonly HostView[] },
): RolloutSnapshot {
  const { hosts, ...change } = input
  return {
    rollouts: [],
    others: new Map(),
    clusters: new Map(),
    operations: new Map(),
    follows: new Map(),
    windows: [],
    silence: { known: hosts.length, silent: 0, percent: 30 },
    gates: undefined,
    jobs: new Map(),
    watchedSinceMs: 0,
    halted: undefined,
    ...change,
    hosts: new Map(hosts.map(host => [host.host, host])),
  }
}
