import { planRollouts } from '../../plan-rollouts.ts'
import type { ClusterView } from '../../rollout-snapshot.ts'
import {
  type BrokenPlanner,
  blind,
  goingPast,
  withHosts,
  withRecordHosts,
  withRecords,
} from './break-planner.ts'
import { BY_HAND } from './worlds.ts'

/** Mistakes about how many at once, and who before whom: budget, quorum, servers, canaries, edges, racks. */
export const BREAK_ORDER: readonly BrokenPlanner[] = [
  {
    name: 'takes those that are away out of the budget (T45)',
    notices: /over budget/,
    planner: () => withHosts(view => ({ ...view, connected: true })),
  },
  {
    name: 'counts the budget of each rollout for itself',
    notices: /over budget/,
    planner: () => (snapshot, nowMs) => {
      const [first, ...rest] = snapshot.rollouts.map(rollout =>
        planRollouts({ ...snapshot, rollouts: [rollout] }, nowMs),
      )
      const all = first ? [first, ...rest] : rest
      return {
        placements: all.flatMap(({ placements }) => placements),
        grants: all.flatMap(({ grants }) => grants),
        opened: all.flatMap(({ opened }) => opened),
        closings: all.flatMap(({ closings }) => closings),
        moves: all.flatMap(({ moves }) => moves),
        waits: new Map(all.flatMap(({ waits }) => [...waits])),
      }
    },
  },
  {
    name: 'moves everybody at once (N27)',
    notices: /over budget/,
    planner: () =>
      withRecords(rollout => {
        const all = { kind: 'percent', percent: 100 } as const
        return {
          ...rollout,
          settings: { ...rollout.settings, maxUnavailable: all, maxUnavailableAlone: all },
        }
      }),
  },
  {
    name: 'moves at once whoever was named by hand',
    notices: /over budget/,
    planner: () =>
      withRecords(rollout => {
        const all = { kind: 'percent', percent: 100 } as const
        return { ...rollout, settings: { ...rollout.settings, maxUnavailableAlone: all } }
      }),
    options: BY_HAND,
  },
  {
    name: 'goes past the budget of hosts that were named by hand, and records nothing',
    notices: /over budget/,
    planner: () => (snapshot, nowMs) => ({ ...planRollouts(snapshot, nowMs), opened: [] }),
    options: BY_HAND,
  },
  {
    name: 'goes past the budget without anybody having named hosts by hand',
    notices: /over budget/,
    planner: () => withRecords(rollout => ({ ...rollout, settings: { ...rollout.settings, direct: true } })),
    options: { ...BY_HAND, byHand: false },
  },
  {
    name: 'asks nobody whether the datastore agrees (T39)',
    notices: /without quorum/,
    planner: () =>
      blind(snapshot => {
        const clusters = [...snapshot.clusters].map(([name, cluster]): [string, ClusterView] => {
          const names = [...cluster.members].filter(([, { server }]) => server).map(([host]) => host)
          const members = names.map(host => ({ name: host, learner: false, healthy: true }))
          const quorum = { members, voters: members.length, healthy: members.length }
          return [name, { ...cluster, datastore: { kind: 'read', quorum } }]
        })
        return { ...snapshot, clusters: new Map(clusters) }
      }),
  },
  {
    name: 'takes servers for workers',
    notices: /two servers|over budget|leader before|without quorum|ahead of a server/,
    planner: () =>
      blind(snapshot => ({
        ...snapshot,
        hosts: new Map([...snapshot.hosts].map(([name, view]) => [name, { ...view, server: false }])),
        rollouts: snapshot.rollouts.map(rollout => ({
          ...rollout,
          hosts: rollout.hosts.map(host => ({ ...host, server: false })),
        })),
      })),
    options: { actions: ['reboot', 'reboot', 'reboot'] },
  },
  {
    name: 'takes the server at which the others join for the one that leads',
    notices: /leader before another/,
    planner: () =>
      blind(snapshot => {
        const clusters = [...snapshot.clusters].map(([name, cluster]): [string, ClusterView] => [
          name,
          { ...cluster, leader: cluster.first },
        ])
        return { ...snapshot, clusters: new Map(clusters) }
      }),
  },
  {
    name: 'takes whoever led at first for the one that leads now',
    notices: /leader before another/,
    planner: () => {
      const known = new Map<string, string | undefined>()
      return blind(snapshot => {
        const clusters = [...snapshot.clusters].map(([name, cluster]): [string, ClusterView] => {
          if (!known.has(name)) known.set(name, cluster.leader)
          return [name, { ...cluster, leader: known.get(name) }]
        })
        return { ...snapshot, clusters: new Map(clusters) }
      })
    },
  },
  {
    name: 'sends workers ahead of their servers',
    notices: /worker before server|ahead of a server/,
    planner: () =>
      withRecords(rollout => ({
        ...rollout,
        overrides: new Set(rollout.hosts.flatMap(({ host }) => [`${host} servers`, `${host} canary`])),
      })),
    options: { actions: ['apply', 'apply', 'apply'] },
  },
  {
    name: 'knows no canaries (T41)',
    notices: /before a canary/,
    planner: () => withRecordHosts(host => ({ ...host, canary: false })),
  },
  {
    name: 'knows no edges between hosts',
    notices: /^before a1/,
    planner: () => withRecordHosts(host => ({ ...host, after: [] })),
  },
  {
    name: 'lets no cluster follow another',
    notices: /before k0/,
    planner: () => blind(snapshot => ({ ...snapshot, follows: new Map() })),
  },
  {
    name: 'does not look at racks',
    notices: /not spread/,
    planner: () =>
      withRecords(rollout => ({ ...rollout, settings: { ...rollout.settings, spread: undefined } })),
    options: { spread: true },
  },
  {
    name: 'takes a rotation for what takes nobody away',
    notices: /over budget|two servers|without quorum|outside of its window/,
    planner: () =>
      withRecords(rollout => (rollout.action === 'rotate' ? { ...rollout, action: 'restore' } : rollout)),
    options: { actions: ['rotate', 'rotate', 'rotate'] },
  },
  {
    name: 'takes a server that leaves for one that is stopped for a while',
    notices: /leaves nobody|without quorum/,
    planner: () =>
      withRecords(rollout => (rollout.action === 'leave' ? { ...rollout, action: 'rotate' } : rollout)),
    options: {
      clusters: [{ servers: 1, workers: 0 }],
      later: ['leave', 'leave', 'leave'],
      actions: ['apply'],
    },
  },
  {
    name: 'keeps a restore from a datastore that agrees on nothing',
    notices: /is running|is lost/,
    planner: () =>
      withRecords(rollout => (rollout.action === 'restore' ? { ...rollout, action: 'rotate' } : rollout)),
    options: { calamity: true, alone: 0 },
  },
  {
    name: 'has everybody fetch and build at once',
    notices: /fetch at once/,
    planner: () => goingPast('fetching'),
    options: { alone: 0, clusters: [{ servers: 1, workers: 130 }] },
  },
]
