import { type GateName, OVERRIDABLE } from '../decision.ts'
import { nextAttempt, progressOf } from '../host-steps.ts'
import { nextStep } from '../next-step.ts'
import { planRollouts } from '../plan-rollouts.ts'
import type { HostRecord, RolloutRecord } from '../rollout-record.ts'
import type {
  ClusterView,
  GatesView,
  HostView,
  MemberView,
  OperationView,
  RolloutSnapshot,
} from '../rollout-snapshot.ts'
import type { Planner, SimulationOptions } from './simulated-operators.ts'

/** A world that gives every mistake its chance. */
export const SMALL_WORLD: SimulationOptions = {
  seed: 1,
  alone: 12,
  quarantined: 0,
  lying: 0.02,
  forbidding: 0,
  late: 0,
  joining: 0,
  askGates: false,
  askJobs: false,
  calamity: false,
  clusters: [
    { servers: 3, workers: 5 },
    { servers: 3, workers: 2 },
  ],
  maxUnavailable: { kind: 'number', number: 2 },
  onFailure: 'continue',
  maxFailures: undefined,
  spread: false,
  canaries: 1,
  byHand: false,
  actions: ['upgrade', 'apply', 'reboot'],
  later: [],
}

/** A world in which much is done in clusters. */
const BUSY: Partial<SimulationOptions> = { alone: 0, maxUnavailable: { kind: 'percent', percent: 100 } }

/** A world in which operators name hosts one by one, and many are off. */
const BY_HAND: Partial<SimulationOptions> = {
  byHand: true,
  clusters: [],
  alone: 30,
  maxUnavailable: { kind: 'number', number: 1 },
}

/** A world in which much is taken back. */
const TAKES_BACK: Partial<SimulationOptions> = {
  actions: ['apply', 'apply', 'apply'],
  onFailure: 'revert',
  later: ['rollback', 'apply', 'rollback', 'apply', 'rollback', 'apply', 'rollback'],
}

/** The real planner, with another world before its eyes. */
const blind =
  (change: (snapshot: RolloutSnapshot) => RolloutSnapshot): Planner =>
  (snapshot, nowMs) =>
    planRollouts(change(snapshot), nowMs)

const withHosts = (change: (view: HostView) => HostView) =>
  blind(snapshot => ({
    ...snapshot,
    hosts: new Map([...snapshot.hosts].map(([name, view]) => [name, change(view)])),
  }))

const withJobAnswers =
  (change: (answer: GatesView, nowMs: number) => GatesView): Planner =>
  (snapshot, nowMs) => {
    const jobs = [...snapshot.jobs].map(([name, view]) => {
      const answer = view.answer && change(view.answer, nowMs)
      return [name, { ...view, answer }] as const
    })
    return planRollouts({ ...snapshot, jobs: new Map(jobs) }, nowMs)
  }

const withMembers = (change: (member: MemberView, nowMs: number) => MemberView): Planner => {
  return (snapshot, nowMs) => {
    const clusters = [...snapshot.clusters].map(([name, cluster]): [string, ClusterView] => [
      name,
      { ...cluster, members: new Map([...cluster.members].map(([host, one]) => [host, change(one, nowMs)])) },
    ])
    return planRollouts({ ...snapshot, clusters: new Map(clusters) }, nowMs)
  }
}

const renewedAt = ({ evidence }: MemberView, nowMs: number) =>
  evidence && { ...evidence, renewedAfterMs: nowMs }

const withRecords = (change: (rollout: RolloutRecord) => RolloutRecord) =>
  blind(snapshot => ({ ...snapshot, rollouts: snapshot.rollouts.map(change) }))

const withRecordHosts = (change: (host: HostRecord) => HostRecord) =>
  withRecords(rollout => ({ ...rollout, hosts: rollout.hosts.map(change) }))

/** Everything that it grants is written down, but it decides from the state before. */
const withoutMemory = (): Planner => {
  let before: RolloutSnapshot | undefined
  return (snapshot, nowMs) => {
    const decision = planRollouts(before ? { ...snapshot, rollouts: before.rollouts } : snapshot, nowMs)
    before = snapshot
    return decision
  }
}

/** Grants what is held by this gate alone as well. */
const goingPast =
  (gate: GateName): Planner =>
  (snapshot, nowMs) => {
    const decision = planRollouts(snapshot, nowMs)
    const ends = new Map(decision.closings.map(({ grant, end }) => [grant, { ...end, atMs: nowMs }]))
    const more = snapshot.rollouts.flatMap(rollout =>
      rollout.hosts.flatMap(record => {
        const held = decision.waits.get(rollout.id)?.get(record.host) ?? []
        if (held.length === 0 || held.some(wait => wait.gate !== gate)) return []
        const grants = record.grants.map(one => ({ ...one, end: one.end ?? ends.get(one.id) }))
        const host = { ...record, grants }
        const step = nextStep(snapshot, rollout, host, progressOf(rollout, host))
        const machine = snapshot.hosts.get(host.host)?.machine
        if (step === undefined || machine === undefined) return []
        const attempt = nextAttempt(host, step)
        return [{ rollout: rollout.id, host: host.host, machine, step, attempt, skipped: undefined }]
      }),
    )
    return { ...decision, grants: [...decision.grants, ...more] }
  }

const withOperations = (change: (operation: OperationView) => OperationView) =>
  blind(snapshot => ({
    ...snapshot,
    operations: new Map([...snapshot.operations].map(([id, operation]) => [id, change(operation)])),
  }))

/** Planners with one mistake each, as others made them, and what the world must notice. */
export const BROKEN_PLANNERS: readonly {
  readonly name: string
  readonly notices: RegExp
  readonly planner: () => Planner
  readonly options?: Partial<SimulationOptions>
}[] = [
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
    name: 'takes any boot of a machine for the one that was wanted',
    notices: /does not boot/,
    planner: () => withRecordHosts(host => ({ ...host, boots: 0 })),
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
    name: 'does not look at racks',
    notices: /not spread/,
    planner: () =>
      withRecords(rollout => ({ ...rollout, settings: { ...rollout.settings, spread: undefined } })),
    options: { spread: true },
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
    name: 'leaves behind who lost its session a moment ago',
    notices: /left behind after a moment/,
    planner: () => withHosts(view => ({ ...view, awaySinceMs: undefined })),
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
    name: 'has everybody fetch and build at once',
    notices: /fetch at once/,
    planner: () => goingPast('fetching'),
    options: { alone: 0, clusters: [{ servers: 1, workers: 130 }] },
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
