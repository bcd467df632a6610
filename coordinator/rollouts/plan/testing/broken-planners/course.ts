import type { Wait } from '../../decision.ts'
import { planRollouts } from '../../plan-rollouts.ts'
import type { Planner } from '../simulated-operators.ts'
import {
  type BrokenPlanner,
  goingPast,
  withHosts,
  withOperations,
  withoutMemory,
  withRecords,
} from './break-planner.ts'
import { BUSY, TAKES_BACK } from './worlds.ts'

/** Mistakes about how a rollout goes on: after failures, pauses and others, back again, and to its end. */
export const BREAK_COURSE: readonly BrokenPlanner[] = [
  {
    name: 'goes on after a failure',
    notices: /after it was stopped|after a canary failed/,
    planner: () =>
      withRecords(rollout => ({
        ...rollout,
        settings: { ...rollout.settings, onFailure: 'continue', maxFailures: undefined },
      })),
    options: { onFailure: 'stop' },
  },
  {
    name: 'goes on while it is paused',
    notices: /not running/,
    planner: () =>
      withRecords(rollout => ({ ...rollout, state: rollout.state === 'paused' ? 'running' : rollout.state })),
  },
  {
    name: 'begins what waits for another rollout',
    notices: /before its turn/,
    planner: () => withRecords(rollout => ({ ...rollout, after: [] })),
  },
  {
    name: 'decides from what was, and grants again what it granted (N33)',
    notices: /granted twice|two steps at once|closes nothing|acts twice/,
    planner: withoutMemory,
  },
  {
    name: 'begins to take back what is not over',
    notices: /before what it takes back is over|two steps at once|another rollout has it/,
    planner: () => withRecords(rollout => ({ ...rollout, reverts: undefined })),
    options: TAKES_BACK,
  },
  {
    name: 'takes nothing back, and says that it did',
    notices: /takes nothing back|was to go back to 3/,
    planner: () => (snapshot, nowMs) => {
      const decision = planRollouts(snapshot, nowMs)
      const back = new Set(
        snapshot.rollouts.filter(({ reverts }) => reverts !== undefined).map(({ id }) => id),
      )
      const grants = decision.grants.map(grant =>
        back.has(grant.rollout) && grant.step === 'act' ? { ...grant, skipped: 'made up' } : grant,
      )
      return { ...decision, grants }
    },
    options: TAKES_BACK,
  },
  {
    name: 'goes on to take back what somebody called off',
    notices: /not running/,
    planner: () =>
      withRecords(rollout =>
        rollout.reverts === undefined || rollout.state !== 'ending' || rollout.endsAs !== 'aborted'
          ? rollout
          : { ...rollout, state: 'running', endsAs: undefined },
      ),
    options: TAKES_BACK,
  },
  {
    name: 'lets hosts be left behind by an end without their names',
    notices: /nobody said that .* was left behind/,
    planner: () => (snapshot, nowMs) => {
      const decision = planRollouts(snapshot, nowMs)
      return { ...decision, moves: decision.moves.map(move => ({ ...move, reason: '' })) }
    },
    options: { late: 0.5 },
  },
  {
    name: 'ends nothing',
    notices: /is running|is ending/,
    planner: () => (snapshot, nowMs) => {
      const decision = planRollouts(snapshot, nowMs)
      return { ...decision, moves: decision.moves.filter(({ state }) => state === 'ending') }
    },
    options: { clusters: [], alone: 3 },
  },
  {
    name: 'ends as soon as nobody has their turn',
    notices: /gives .* up, which waits: /,
    planner: () => givingUp(({ waits, hosts }) => hosts.every(host => waits?.has(host))),
  },
  {
    name: 'ends with the first host that fails',
    notices: /gives .* up, which could go/,
    planner: () => givingUp(({ failed }) => failed),
    options: { clusters: [], alone: 30, canaries: 0, maxUnavailable: { kind: 'number', number: 3 } },
  },
  {
    name: 'leaves behind who lost its session a moment ago',
    notices: /left behind after a moment/,
    planner: () => {
      const plan = withHosts(view => ({ ...view, awaySinceMs: undefined }))
      return (snapshot, nowMs) => plan({ ...snapshot, watchedSinceMs: 0 }, nowMs)
    },
  },
  {
    name: 'tries again at once what did not hold',
    notices: /tried again too early/,
    planner: () => goingPast('retry'),
    options: { clusters: [], alone: 30, actions: ['apply', 'apply', 'apply'], retrying: 0.5 },
  },
  {
    name: 'tries again without end what does not hold',
    notices: /tried too often/,
    planner: () =>
      withOperations(view => ({
        ...view,
        retryDelaysMs: view.state === 'retry' ? [...view.retryDelaysMs, ...view.retryDelaysMs] : [],
      })),
    options: { clusters: [], alone: 30, actions: ['apply', 'apply', 'apply'], retrying: 0.7 },
  },
  {
    name: 'gives up at once what a cluster would not begin',
    notices: /given up too early/,
    planner: () => withOperations(view => (view.state === 'unwilling' ? { ...view, state: 'failed' } : view)),
    options: { ...BUSY, mishaps: true, actions: ['reboot', 'restart', 'reboot'] },
  },
  {
    name: 'asks for ever what a cluster would not begin',
    notices: /asked for ever/,
    planner: () => withOperations(view => (view.state === 'unwilling' ? { ...view, state: 'open' } : view)),
    options: { ...BUSY, mishaps: true, actions: ['reboot', 'restart', 'reboot'] },
  },
]

/** Ends what runs, with whoever is left, as soon as this holds and nothing is under way. */
const givingUp =
  (
    isOver: (seen: {
      readonly waits: ReadonlyMap<string, readonly Wait[]> | undefined
      /** Who has not been moved. */
      readonly hosts: readonly string[]
      readonly failed: boolean
    }) => boolean,
  ): Planner =>
  (snapshot, nowMs) => {
    const decision = planRollouts(snapshot, nowMs)
    const moves = snapshot.rollouts.flatMap(({ id: rollout, state, hosts: all }) => {
      const isKnown = [...decision.moves, ...decision.grants].some(one => one.rollout === rollout)
      const grants = all.flatMap(one => one.grants)
      if (state !== 'running' || isKnown || grants.some(({ end }) => !end)) return []
      const hosts = all.flatMap(one => (one.grants.some(({ step }) => step === 'act') ? [] : [one.host]))
      const failed = grants.some(({ end }) => end?.outcome === 'failed')
      if (hosts.length === 0 || !isOver({ waits: decision.waits.get(rollout), hosts, failed })) return []
      const reason = `left behind: ${hosts.join(', ')}`
      return [{ rollout, state: 'failed' as const, endsAs: 'failed' as const, reason, revert: false }]
    })
    return { ...decision, moves: [...decision.moves, ...moves] }
  }
