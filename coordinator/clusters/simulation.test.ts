import { randomInt } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { planActs } from './acts/plan-acts.ts'
import type { ClusterSnapshot, MachineView } from './cluster-snapshot.ts'
import { DECIDERS, type Decider } from './decide-cluster.ts'
import { type SimulationOptions, simulate } from './testing/simulate.ts'

const options: fc.Arbitrary<SimulationOptions> = fc.record({
  // The course of a world: another one is no smaller.
  seed: fc.noShrink(fc.integer({ min: 0, max: 2 ** 32 - 1 })),
  servers: fc.constantFrom(1, 2, 3, 3, 5),
  workers: fc.integer({ min: 0, max: 25 }),
  distribution: fc.constantFrom('k3s', 'k0s', 'kubernetes', 'components'),
  repairs: fc.boolean(),
})

// What fails is repeated by the seed and path that fast-check prints.
const seed = randomInt(2 ** 31)
console.log(`simulated clusters: seed ${seed}`)

// Nothing is waited for here but the processor, and a busy machine gives little of it.
const PATIENT = { timeout: 900_000 }

describe('clusters in a made-up world of crashes, lost messages, wrong clocks and new disks', PATIENT, () => {
  it('T39, T40, T50: never have two founders, lose quorum or give a token to the wrong machine, and are whole in the end', () => {
    let reinstalled = 0
    let saidDead = 0
    const mended = { lostDatastores: 0, triedAtOnce: 0, wiped: 0 }
    fc.assert(
      fc.property(options, each => {
        const result = simulate(each)
        expect(result.violations).toEqual([])
        expect(result.unsettled).toEqual([])
        reinstalled += result.reinstalled
        saidDead += result.saidDead
        mended.lostDatastores += result.repairs?.lostDatastores ?? 0
        mended.triedAtOnce += result.repairs?.triedAtOnce ?? 0
        mended.wiped += result.repairs?.wiped ?? 0
      }),
      // Worlds in which a leftover node is wiped, which of sixty by chance not every one has.
      {
        seed,
        numRuns: 60,
        examples: [
          [{ seed: 1, servers: 3, workers: 2, distribution: 'k0s', repairs: true }],
          [{ seed: 15, servers: 3, workers: 2, distribution: 'components', repairs: true }],
        ],
      },
    )
    // A world in which nothing happens would prove nothing.
    expect(reinstalled).toBeGreaterThan(30)
    expect(saidDead).toBeGreaterThan(0)
    expect(mended.lostDatastores).toBeGreaterThan(0)
    expect(mended.triedAtOnce).toBeGreaterThan(0)
    expect(mended.wiped).toBeGreaterThan(0)
  })

  it('N21: are not founded again by a coordinator that lost its store', () => {
    fc.assert(
      fc.property(options, fc.integer({ min: 20, max: 300 }), (each, lossAtTick) => {
        const { violations } = simulate({ ...each, lossAtTick })
        // A worker that was not heard yet keeps nobody from it: where only that has data, all servers were installed anew.
        const second = violations.filter(text => /^two founders: .* while s\d+#/.test(text))
        expect(second).toEqual([])
      }),
      { seed, numRuns: 40 },
    )
  })
})

describe('clusters whose coordinator is put back to a copy of its store', PATIENT, () => {
  it('T62: are not founded again, whatever the copy does not know and whoever is away', () => {
    fc.assert(
      fc.property(
        options,
        fc.integer({ min: 2, max: 60 }),
        fc.integer({ min: 5, max: 150 }),
        fc.integer({ min: 1, max: 60 }),
        (each, copiedAtTick, laterTicks, lookTicks) => {
          const putBack = { copiedAtTick, atTick: copiedAtTick + laterTicks, lookTicks }
          const { violations } = simulate({ ...each, putBack })
          // A worker that was not heard yet keeps nobody from it. What joins by an order that the copy does not know goes on.
          const never =
            /^two founders: .* while s\d+#|^founded again|^wrong machine|^quorum lost|^forgets a token/
          expect(violations.filter(text => never.test(text))).toEqual([])
        },
      ),
      // Worlds in which the founder is away when the store that knows of no founding is put back.
      {
        seed,
        numRuns: 80,
        examples: [
          [{ seed: 89, servers: 3, workers: 2, distribution: 'k0s' }, 25, 62, 10],
          [{ seed: 489, servers: 3, workers: 0, distribution: 'k0s' }, 5, 62, 10],
          [{ seed: 666, servers: 4, workers: 0, distribution: 'kubernetes' }, 14, 63, 27],
        ],
      },
    )
  })
})

describe('clusters all of whose servers were lost', PATIENT, () => {
  it('are brought back on one machine, never twice, by nobody who comes back with what there was, and are whole in the end', () => {
    let broughtBack = 0
    let stoodDown = 0
    fc.assert(
      fc.property(options, fc.integer({ min: 60, max: 250 }), (each, serversLostAtTick) => {
        const result = simulate({ ...each, serversLostAtTick })
        expect(result.violations).toEqual([])
        expect(result.unsettled).toEqual([])
        if (result.broughtBack) broughtBack += 1
        stoodDown += result.repairs?.stoodDown ?? 0
      }),
      // Worlds in which a server of before is to leave, and in which a token is owed by one when the restore is not heard of yet.
      {
        seed,
        numRuns: 40,
        examples: [
          [{ seed: 2213799804, servers: 3, workers: 0, distribution: 'k3s' }, 214],
          [{ seed: 1361161863, servers: 5, workers: 5, distribution: 'components' }, 68],
        ],
      },
    )
    expect(broughtBack).toBeGreaterThan(20)
    expect(stoodDown).toBeGreaterThan(0)
  })
})

// Whole, or it would not be made smaller.
const LARGE: SimulationOptions = {
  seed: 3,
  servers: 5,
  workers: 20,
  distribution: 'components',
  repairs: false,
}

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
    name: 'lets machines join with whatever Kubernetes they have',
    notices: /too new/,
    deciders: {
      ...DECIDERS,
      joins: blind(DECIDERS.joins, snapshot =>
        changeMachines(snapshot, view => {
          const seen = view.observation
          return { ...view, observation: seen && { ...seen, installed: '1.34.3' } }
        }),
      ),
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
  it('notices a planner that takes servers of before a restore for those of the cluster', () => {
    const forget = (decide: Decider) =>
      blind(decide, snapshot => ({ ...snapshot, record: { ...snapshot.record, setBackAt: 0 } }))
    const deciders = {
      ...DECIDERS,
      firstServer: forget(DECIDERS.firstServer),
      clears: forget(DECIDERS.clears),
      joins: forget(DECIDERS.joins),
    }
    const seeds = Array.from({ length: 100 }, (_, index) => index)
    const isNoticed = (each: number) => {
      const lost = {
        seed: each,
        servers: 3,
        workers: 3,
        distribution: 'components',
        serversLostAtTick: 80,
      } as const
      return simulate({ ...lost, deciders }).violations.some(text =>
        text.startsWith('asks a server of before'),
      )
    }
    expect(seeds.some(isNoticed)).toBe(true)
  })

  it('notices a planner that begins with machines that are held or at work', () => {
    const free = (decide: Decider) =>
      blind(decide, snapshot => changeMachines(snapshot, view => ({ ...view, occupied: false })))
    const isNoticed = (part: keyof typeof DECIDERS) => {
      const deciders = { ...DECIDERS, [part]: free(DECIDERS[part]) }
      const seeds = Array.from({ length: 200 }, (_, seed) => seed)
      return seeds.some(seed => {
        const world = { seed, servers: 3, workers: 3, distribution: 'components', repairs: true } as const
        const { violations } = simulate({ ...world, deciders })
        return violations.some(text => text.startsWith('begins with one that is occupied'))
      })
    }
    for (const part of ['founding', 'leaves', 'clears', 'joins'] as const)
      expect(isNoticed(part), part).toBe(true)
  })

  it('notices a planner that tells members of the datastore to stand down', () => {
    const world = { servers: 3, workers: 0, distribution: 'k3s', repairs: true } as const
    const { violations } = simulate({
      ...world,
      seed: 1,
      serversLostAtTick: 80,
      planActs: (input, now) => {
        const { snapshot } = input
        // As if nobody had joined since the datastore was set back.
        const record = { ...snapshot.record, setBackAt: Number.MAX_SAFE_INTEGER }
        return planActs({ ...input, snapshot: { ...snapshot, record } }, now)
      },
    })
    expect(violations).toContainEqual(expect.stringMatching(/^stands down a member/))
  })

  it('shrinks what fails to a small cluster, whose seed and path are printed', () => {
    const deciders = mistakes[1]?.deciders ?? DECIDERS
    const large = { ...LARGE, deciders }
    const found = fc.check(
      fc.property(options, each => {
        expect(simulate({ ...each, deciders }).violations).toEqual([])
      }),
      { seed: 1, numRuns: 60, examples: [[LARGE]] },
    )
    expect(simulate(large).violations).not.toEqual([])
    expect(found.failed).toBe(true)
    const [small] = found.counterexample ?? []
    expect((small?.servers ?? 9) + (small?.workers ?? 99)).toBeLessThan(LARGE.servers + LARGE.workers)
    expect(fc.defaultReportMessage(found)).toMatch(/seed: 1, path: "\d/)
  })

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
