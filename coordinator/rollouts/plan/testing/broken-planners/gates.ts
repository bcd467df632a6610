import { OVERRIDABLE } from '../../decision.ts'
import { planRollouts } from '../../plan-rollouts.ts'
import type { HostView } from '../../rollout-snapshot.ts'
import { type BrokenPlanner, blind, withHosts, withJobAnswers, withRecords } from './break-planner.ts'

/** Mistakes about what holds a step: windows, locks, pins, what nodes take orders for, gates and Jobs, and what opens them. */
export const BREAK_GATES: readonly BrokenPlanner[] = [
  {
    name: 'looks at no window (T46)',
    notices: /outside of its window/,
    planner: () =>
      blind(snapshot => ({
        ...snapshot,
        windows: [],
        hosts: new Map([...snapshot.hosts].map(([name, view]) => [name, { ...view, windows: [] }])),
      })),
  },
  {
    name: 'looks at the window only when it begins with a host (T46)',
    notices: /outside of its window/,
    planner: () => (snapshot, nowMs) => {
      const opened = snapshot.rollouts.map(rollout => ({
        ...rollout,
        overrides: new Set(
          rollout.hosts.flatMap(({ host, grants }) =>
            grants.some(({ step, end }) => step === 'drain' && end?.outcome === 'done')
              ? [`${host} window`]
              : [],
          ),
        ),
      }))
      return planRollouts({ ...snapshot, rollouts: opened }, nowMs)
    },
  },
  {
    name: 'opens locks',
    notices: /locked/,
    planner: () => withHosts(view => ({ ...view, lock: undefined })),
  },
  {
    name: 'does not look at what nodes take orders for',
    notices: /its owner forbids|owners of its servers forbid/,
    planner: () => withHosts(view => ({ ...view, allowed: undefined })),
    options: { forbidding: 0.1 },
  },
  {
    name: 'drains first and sees then what a node takes no orders for',
    notices: /its owner forbids it: .* drain/,
    planner: () => (snapshot, nowMs) => {
      const drained = new Set(
        snapshot.rollouts.flatMap(({ hosts }) =>
          hosts.flatMap(({ host, grants }) => (grants.some(({ step }) => step === 'drain') ? [host] : [])),
        ),
      )
      return withHosts(view => (drained.has(view.host) ? view : { ...view, allowed: undefined }))(
        snapshot,
        nowMs,
      )
    },
    options: { forbidding: 0.1, alone: 0, actions: ['reboot', 'reboot', 'reboot'] },
  },
  {
    name: 'boots for each reason anew',
    notices: /boots again/,
    planner: () => withHosts(view => ({ ...view, boots: undefined })),
    options: { actions: ['reboot', 'reboot', 'reboot'] },
  },
  {
    name: 'grants while it is halted (T62)',
    notices: /while halted/,
    planner: () => blind(snapshot => ({ ...snapshot, halted: undefined })),
    options: { mishaps: true },
  },
  {
    name: 'orders what holds and obeys nothing',
    notices: /^held/,
    planner: () => withHosts(view => ({ ...view, held: undefined })),
    options: { mishaps: true },
  },
  {
    name: 'begins where something else is under way',
    notices: /^busy/,
    planner: () => withHosts(view => ({ ...view, busyWith: undefined })),
    options: { mishaps: true },
  },
  {
    name: 'orders what has no target',
    notices: /^without a target/,
    planner: () => withHosts(view => ({ ...view, refused: new Map() })),
    options: { mishaps: true },
  },
  {
    name: 'pulls pins',
    notices: /pinned/,
    planner: () => withHosts(view => ({ ...view, pin: undefined })),
  },
  {
    name: 'tries again what is quarantined (N31)',
    notices: /quarantined/,
    planner: () => withHosts(view => ({ ...view, quarantined: new Set() })),
    options: { quarantined: 0.05, actions: ['apply', 'apply', 'apply'] },
  },
  {
    name: 'begins while much of the fleet is silent',
    notices: /while many are silent/,
    planner: () => blind(snapshot => ({ ...snapshot, silence: { ...snapshot.silence, silent: 0 } })),
    options: { maxUnavailable: { kind: 'percent', percent: 100 }, clusters: [], alone: 30 },
  },
  {
    name: 'asks no gates of hosts',
    notices: /its gates were not asked/,
    planner: () => blind(snapshot => ({ ...snapshot, gates: undefined })),
    options: { askGates: true },
  },
  {
    name: 'takes whatever gates answer for healthy',
    notices: /its gates are ill/,
    planner: () =>
      blind(({ gates, ...snapshot }) => ({
        ...snapshot,
        gates:
          gates && new Map([...gates].map(([machine, view]) => [machine, { ...view, problem: undefined }])),
      })),
    options: { askGates: true },
  },
  {
    name: 'takes what gates said before the last step for what they say now',
    notices: /its gates were (asked before|not asked)/,
    planner: () => (snapshot, nowMs) =>
      planRollouts(
        {
          ...snapshot,
          gates:
            snapshot.gates &&
            new Map([...snapshot.gates].map(([machine, view]) => [machine, { ...view, askedMs: nowMs }])),
        },
        nowMs,
      ),
    options: { askGates: true },
  },
  {
    name: 'asks no Jobs of clusters',
    notices: /the Jobs of its cluster were not asked/,
    planner: () => blind(snapshot => ({ ...snapshot, jobs: new Map() })),
    options: { askJobs: true },
  },
  {
    name: 'takes whatever Jobs come to for completed',
    notices: /the Jobs of its cluster failed/,
    planner: () => withJobAnswers(answer => ({ ...answer, problem: undefined })),
    options: { askJobs: true },
  },
  {
    name: 'takes what Jobs said before the last step for what they say now',
    notices: /the Jobs of its cluster were (asked before|not asked)/,
    planner: () => withJobAnswers((answer, nowMs) => ({ ...answer, askedMs: nowMs })),
    options: { askJobs: true },
  },
  {
    name: 'takes an override of one gate for one of all gates',
    notices: /locked|pinned|outside of its window|over budget|while many are silent/,
    planner: () =>
      withRecords(rollout => ({
        ...rollout,
        overrides: new Set(
          [...rollout.overrides].flatMap(text => {
            const [host = ''] = text.split(' ')
            return OVERRIDABLE.map(gate => `${host} ${gate}`)
          }),
        ),
      })),
  },
  {
    name: 'opens a gate for every host that was opened for one',
    notices: /locked|pinned|outside of its window|over budget|while many are silent/,
    planner: () =>
      withRecords(rollout => {
        const gates = new Set([...rollout.overrides].map(text => text.split(' ')[1] ?? ''))
        const all = rollout.hosts.flatMap(({ host }) => [...gates].map(gate => `${host} ${gate}`))
        return { ...rollout, overrides: new Set(all) }
      }),
  },
  {
    name: 'opens nothing, whatever is overridden',
    notices: /lock of .* was opened .* left it behind/,
    planner: () => withRecords(rollout => ({ ...rollout, overrides: new Set() })),
    options: { actions: ['apply', 'apply', 'reboot'], clusters: [], alone: 20 },
  },
  {
    name: 'knows the locks and pins of the first moment',
    notices: /locked|pinned/,
    planner: () => {
      const first = new Map<string, Pick<HostView, 'lock' | 'pin'>>()
      return withHosts(view => {
        const { lock, pin } = first.get(view.host) ?? view
        first.set(view.host, { lock, pin })
        return { ...view, lock, pin }
      })
    },
  },
  {
    name: 'orders hosts that no machine is',
    notices: /no machine is it/,
    planner: () =>
      withHosts(view =>
        view.machine === undefined ? { ...view, machine: 'made up', connected: true } : view,
      ),
    options: { late: 0.5 },
  },
]
