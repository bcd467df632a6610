import { randomInt } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { ClusterSnapshot, MachineView } from './cluster-snapshot.ts'
import { DECIDERS, type Decider } from './decide-cluster.ts'
import { type SimulationOptions, simulate } from './testing/simulate.ts'

const options: fc.Arbitrary<SimulationOptions> = fc.record({
  seed: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  servers: fc.constantFrom(1, 2, 3, 3, 5),
  workers: fc.integer({ min: 0, max: 25 }),
  distribution: fc.constantFrom('k3s', 'k0s', 'kubernetes', 'components'),
})

// What fails is repeated by the seed and path that fast-check prints.
const seed = randomInt(2 ** 31)
console.log(`simulated clusters: seed ${seed}`)

describe('clusters in a made-up world of crashes, lost messages, wrong clocks and new disks', () => {
  it('T39, T40, T50: never have two founders, lose quorum or give a token to the wrong machine, and are whole in the end', () => {
    let reinstalled = 0
    let saidDead = 0
    fc.assert(
      fc.property(options, each => {
        const result = simulate(each)
        expect(result.violations).toEqual([])
        expect(result.unsettled).toEqual([])
        reinstalled += result.reinstalled
        saidDead += result.saidDead
      }),
      { seed, numRuns: 60, endOnFailure: true },
    )
    // A world in which nothing happens would prove nothing.
    expect(reinstalled).toBeGreaterThan(30)
    expect(saidDead).toBeGreaterThan(0)
  })

  it('N21: are not founded again by a coordinator that lost its store', () => {
    fc.assert(
      fc.property(options, fc.integer({ min: 20, max: 300 }), (each, lossAtTick) => {
        const { violations } = simulate({ ...each, lossAtTick })
        expect(violations.filter(text => text.startsWith('two founders'))).toEqual([])
      }),
      { seed, numRuns: 40, endOnFailure: true },
    )
  })
})

/** The real decider, with another world before its eyes. */
const blind =
  (decide: Decider, change: (snapshot: ClusterSnapshot) => ClusterSnapshot): Decider =>
  (snapshot, now) =>
    decide(change(snapshot), now)

const changeMachines = (
  snapshot: ClusterSnapshot,
  change: (view: MachineView) => MachineView,
): ClusterSnapshot => ({
  ...snapshot,
  machines: new Map([...snapshot.machines].map(([id, view]) => [id, change(view)])),
})

const allWell = (snapshot: ClusterSnapshot) =>
  changeMachines(snapshot, view => {
    const seen = view.observation
    if (!seen?.view) return view
    const members = seen.view.members.map(member => ({ ...member, healthy: true, learner: false }))
    return { ...view, observation: { ...seen, view: { ...seen.view, members } } }
  })

/** Planners with one mistake each, as others made them, and what the world must notice. */
const mistakes: readonly { name: string; notices: RegExp; deciders: typeof DECIDERS }[] = [
  {
    name: 'takes a founder that is away for gone',
    notices: /two founders/,
    deciders: {
      ...DECIDERS,
      founding: blind(DECIDERS.founding, snapshot =>
        changeMachines(snapshot, view => (view.connected ? view : { ...view, gone: true })),
      ),
    },
  },
  {
    name: 'joins servers side by side',
    notices: /two changes/,
    deciders: {
      ...DECIDERS,
      joins: blind(DECIDERS.joins, snapshot => {
        const joins = snapshot.record.joins.map(join => ({ ...join, role: 'worker' as const }))
        return { ...snapshot, record: { ...snapshot.record, joins } }
      }),
    },
  },
  {
    name: 'counts learners and the sick as voters (T39)',
    notices: /joins ill quorum/,
    deciders: { ...DECIDERS, joins: blind(DECIDERS.joins, allWell) },
  },
  {
    name: 'goes by what was seen before the last change (T40)',
    notices: /clears|joins ill quorum|quorum lost/,
    deciders: {
      ...DECIDERS,
      clears: blind(DECIDERS.clears, snapshot => ({
        ...snapshot,
        record: { ...snapshot.record, settledMs: 0, attempts: new Map() },
      })),
      joins: blind(DECIDERS.joins, snapshot => ({
        ...snapshot,
        record: { ...snapshot.record, settledMs: 0, attempts: new Map() },
      })),
    },
  },
  {
    name: 'mints for the machine that had the host before',
    notices: /wrong machine/,
    deciders: {
      ...DECIDERS,
      joins: (snapshot, now) => {
        const decision = DECIDERS.joins(snapshot, now)
        const older = (id: string) => id.replace(/#[2-9]$/, '#1')
        return {
          ...decision,
          steps: decision.steps.map(step =>
            step.kind === 'mint' ? { ...step, machine: older(step.machine) } : step,
          ),
        }
      },
    },
  },
  {
    name: 'forgets a join without its token',
    notices: /forgets a token/,
    deciders: {
      ...DECIDERS,
      tokens: blind(DECIDERS.tokens, snapshot => {
        const joins = snapshot.record.joins.map(join => ({ ...join, tokenGone: join.end !== undefined }))
        return { ...snapshot, record: { ...snapshot.record, joins } }
      }),
    },
  },
]

describe('the made-up world', () => {
  it.each(mistakes)('notices a planner that $name', ({ notices, deciders }) => {
    const noticed = () => {
      for (let run = 1; run <= 200; run += 1) {
        const distribution = (['k3s', 'k0s', 'kubernetes', 'components'] as const)[run % 4] ?? 'k3s'
        const result = simulate({ seed: run, servers: 3 + 2 * (run % 2), workers: 3, distribution, deciders })
        const found = result.violations.find(text => notices.test(text))
        if (found !== undefined) return found
      }
      return 'nothing'
    }
    expect(noticed()).toMatch(notices)
  })
})
