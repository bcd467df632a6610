import { planRollouts } from '../../plan-rollouts.ts'
import type { HostRecord } from '../../rollout-record.ts'
import type { ClusterView, HostView, RolloutSnapshot } from '../../rollout-snapshot.ts'
import {
  type BrokenPlanner,
  blind,
  goingPast,
  renewedAt,
  withHosts,
  withMembers,
  withRecordHosts,
  withRecords,
} from './break-planner.ts'
import { BUSY } from './worlds.ts'

/** Mistakes about what counts as proof: that a node is drained, well, at its version, and goes on to be. */
export const BREAK_EVIDENCE: readonly BrokenPlanner[] = [
  {
    name: 'takes an old answer for proof (T40)',
    notices: /stale proof|false proof/,
    planner: () =>
      withMembers((member, nowMs) => ({ ...member, asOfMs: nowMs, evidence: renewedAt(member, nowMs) })),
    options: { ...BUSY, actions: ['reboot', 'reboot', 'reboot'] },
  },
  {
    name: 'believes a Ready that has outlived its kubelet (T40)',
    notices: /stale proof/,
    planner: () => withMembers((member, nowMs) => ({ ...member, evidence: renewedAt(member, nowMs) })),
    options: { ...BUSY, actions: ['reboot', 'restart', 'reboot'] },
  },
  {
    name: 'takes a renewal of before for one of after (T40)',
    notices: /stale proof/,
    planner: () =>
      blind(snapshot => ({
        ...snapshot,
        operations: new Map(
          [...snapshot.operations].map(([id, view]) => [
            id,
            { ...view, disturbed: { startedMs: Number.POSITIVE_INFINITY, endedMs: 0 } },
          ]),
        ),
      })),
    options: { ...BUSY, actions: ['reboot', 'restart', 'reboot'] },
  },
  {
    name: 'does not look which version runs',
    notices: /false proof|ahead of a server/,
    planner: () => withHosts(view => ({ ...view, versions: new Map() })),
    options: { lying: 0.3 },
  },
  {
    name: 'takes silence for health while it soaks (N29)',
    notices: /soaked while not well/,
    planner: () => (snapshot, nowMs) => {
      const well = withHosts(view => ({ ...view, connected: true, connectedSinceMs: 0 }))(snapshot, nowMs)
      const isSoak = (row: number) =>
        snapshot.rollouts.some(({ hosts }) =>
          hosts.some(({ grants }) => grants.some(({ id, step }) => id === row && step === 'soak')),
        )
      const decision = planRollouts(snapshot, nowMs)
      const others = decision.closings.filter(({ grant }) => !isSoak(grant))
      return { ...decision, closings: [...others, ...well.closings.filter(({ grant }) => isSoak(grant))] }
    },
    options: { clusters: [], alone: 20, maxUnavailable: { kind: 'number', number: 5 } },
  },
  {
    name: 'ends a soak at once (N28)',
    notices: /soaked while not well/,
    planner: () =>
      withRecords(rollout => ({
        ...rollout,
        settings: { ...rollout.settings, soakMs: 0, canarySoakMs: 0 },
      })),
  },
  {
    name: 'drains nobody',
    notices: /acts undrained/,
    planner: () => withMembers(member => ({ ...member, joined: false })),
  },
  {
    name: 'takes any boot of a machine for the one that was wanted',
    notices: /does not boot/,
    planner: () => withRecordHosts(host => ({ ...host, boots: 0 })),
    options: { actions: ['reboot', 'reboot', 'reboot'] },
  },
  {
    name: 'takes a cluster of which nobody knows anything for none (T42)',
    notices: /nothing is known of its cluster|acts undrained/,
    planner: () =>
      blind(snapshot => {
        const none = (name: string): ClusterView => ({
          name,
          datastore: { kind: 'read', quorum: { members: [], voters: 0, healthy: 0 } },
          serverChange: undefined,
          leader: undefined,
          first: undefined,
          members: new Map(
            [...snapshot.hosts.values()]
              .filter(({ cluster }) => cluster === name)
              .map(({ host, server }) => [
                host,
                {
                  joined: false,
                  server,
                  ready: true,
                  asOfMs: 0,
                  version: undefined,
                  kubelet: undefined,
                  cordonedBy: undefined,
                },
              ]),
          ),
        })
        const names = new Set([...snapshot.hosts.values()].flatMap(({ cluster }) => cluster ?? []))
        const clusters = [...names].map(name => [name, snapshot.clusters.get(name) ?? none(name)] as const)
        return { ...snapshot, clusters: new Map(clusters) }
      }),
  },
  {
    name: 'restarts Kubernetes under pods that nobody moved',
    notices: /acts undrained/,
    planner: () => withMembers(member => ({ ...member, nodeless: true })),
    options: { actions: ['restart', 'restart', 'restart'] },
  },
  {
    name: 'takes for outside of its cluster for ever who had not joined when it began',
    notices: /acts undrained/,
    planner: () =>
      blind(snapshot => {
        const records = snapshot.rollouts.flatMap(({ hosts }) => hosts)
        const alone = new Set(records.flatMap(({ host, cluster }) => (cluster === undefined ? [host] : [])))
        const hosts = [...snapshot.hosts].map(([name, view]): [string, HostView] => [
          name,
          alone.has(name) ? { ...view, cluster: undefined } : view,
        ])
        return { ...snapshot, hosts: new Map(hosts) }
      }),
    options: { ...BUSY, joining: 0.7, actions: ['reboot', 'reboot', 'reboot'] },
  },
  {
    name: 'begins with what is ill',
    notices: /begun while not well/,
    planner: () =>
      withRecords(rollout => ({
        ...rollout,
        overrides: new Set([...rollout.overrides, ...rollout.hosts.map(({ host }) => `${host} health`)]),
      })),
    options: BUSY,
  },
  {
    name: 'looks whether a node is well only when it begins with it',
    notices: /goes on while not well/,
    planner: () => (snapshot, nowMs) => planRollouts(withHealthOpened(snapshot), nowMs),
    // Few nodes cease to be well just then.
    options: {
      ...BUSY,
      clusters: [{ servers: 1, workers: 40 }],
      actions: ['reboot', 'reboot', 'reboot'],
      later: ['reboot', 'reboot', 'reboot'],
    },
  },
  {
    name: 'takes a server away that was drained while another has ceased to be well',
    notices: /beside a server that is not well/,
    planner: () => (snapshot, nowMs) => planRollouts(withHealthOpened(snapshot), nowMs),
    options: {
      ...BUSY,
      clusters: Array.from({ length: 8 }, () => ({ servers: 5, workers: 0 })),
      actions: ['reboot', 'reboot', 'reboot'],
      later: ['reboot', 'reboot', 'reboot'],
    },
  },
  {
    name: 'has those soak anew that are not well again',
    notices: /soaks anew while not well/,
    planner: () => goingPast('retry'),
    options: {
      clusters: [],
      alone: 40,
      maxUnavailable: { kind: 'percent', percent: 100 },
      actions: ['reboot', 'reboot', 'reboot'],
    },
  },
]

function isDrained(grants: HostRecord['grants']): boolean {
  return grants.some(({ step, end }) => step === 'drain' && end?.outcome === 'done')
}

/** With the gate opened for every host that was drained. */
function withHealthOpened(snapshot: RolloutSnapshot): RolloutSnapshot {
  const rollouts = snapshot.rollouts.map(rollout => ({
    ...rollout,
    overrides: new Set([
      ...rollout.overrides,
      ...rollout.hosts.flatMap(({ host, grants }) => (isDrained(grants) ? [`${host} health`] : [])),
    ]),
  }))
  return { ...snapshot, rollouts }
}
