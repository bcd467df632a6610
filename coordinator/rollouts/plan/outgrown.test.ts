import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { planRollouts } from './plan-rollouts.ts'
import type { OperationView, PlanView, RolloutSnapshot } from './rollout-snapshot.ts'
import { sampleGrant } from './testing/grants.ts'
import { sampleHost, sampleRollout, sampleSnapshot } from './testing/sample.ts'
import { clusterHosts, sampleCluster } from './testing/sample-cluster.ts'

const NOW = 1_800_000_000_000
const SHUT = [{ days: [1], fromMinute: 0, toMinute: 0, timeZone: 'Nowhere/Else' }]
const MINUTE = 60_000

interface Planned {
  readonly minutesAgo: number
  readonly plan: PlanView | undefined
}

/** A host outside of its windows, planned as often as this, whose window an operator opened so long ago; undefined: nobody did. */
function opened(plans: readonly Planned[], minutesAgo: number | undefined): RolloutSnapshot {
  const hosts = [sampleHost('a', { windows: SHUT })]
  const grants = plans.map((one, at) =>
    sampleGrant('prefetch', 'done', NOW - one.minutesAgo * MINUTE, { operation: `p${at}`, attempt: at + 1 }),
  )
  const operations = plans.map(({ plan }, at): [string, OperationView] => [
    `p${at}`,
    {
      id: `p${at}`,
      state: 'done',
      reason: '',
      endedMs: NOW,
      retryDelaysMs: [],
      untouched: true,
      plan,
    },
  ])
  return sampleSnapshot({
    hosts,
    operations: new Map(operations),
    rollouts: [
      sampleRollout({
        hosts,
        grants: { a: grants },
        settings: { prefetch: true },
        change:
          minutesAgo === undefined
            ? {}
            : {
                overrides: new Set(['a window']),
                overriddenMs: new Map([['a window', NOW - minutesAgo * MINUTE]]),
              },
      }),
    ],
  })
}

const acts = (snapshot: RolloutSnapshot) =>
  planRollouts(snapshot, NOW).grants.some(({ step, skipped }) => step === 'act' && skipped === undefined)
const reason = (snapshot: RolloutSnapshot) =>
  planRollouts(snapshot, NOW).waits.get('r1')?.get('a')?.[0]?.reason
const plan = (units: readonly string[], change: Partial<PlanView> = {}): PlanView => ({
  reboots: false,
  touchesKubernetes: false,
  units,
  leftOut: 0,
  ...change,
})

describe('a window that an operator opened', () => {
  it.each<[string, PlanView | undefined, string | undefined]>([
    ['as much', plan(['a', 'b']), undefined],
    ['less', plan(['b']), undefined],
    ['a unit more', plan(['a', 'b', 'c']), 'by now 1 more unit is touched, such as c'],
    ['another unit', plan(['c', 'd']), 'by now 2 more units are touched, such as c'],
    ['a reboot', plan(['a'], { reboots: true }), 'by now a reboot is needed'],
    ['Kubernetes', plan(['a'], { touchesKubernetes: true }), 'by now Kubernetes is restarted'],
    ['more than is listed', plan(['a'], { leftOut: 1 }), 'by now more units are touched'],
    ['nobody knows what', undefined, 'nobody can say whether more is planned by now'],
  ])('counts for what was planned then, and not where %s is planned by now', (_, newest, why) => {
    const plans = [
      { minutesAgo: 50, plan: plan(['a', 'b']) },
      { minutesAgo: 10, plan: newest },
    ]
    const after = opened(plans, 30)
    expect(acts(after)).toBe(why === undefined)
    if (why !== undefined) expect(reason(after)).toContain(`it was opened for less: ${why}`)
    // Whoever opens it anew has seen what is planned by now.
    expect(acts(opened(plans, 5))).toBe(true)
    expect(acts(opened(plans, undefined))).toBe(false)
  })

  it('is closed again by whatever any newer plan has more, whenever it was opened, and by nothing else', () => {
    const plans = fc.array(
      fc.record({
        reboots: fc.boolean(),
        touchesKubernetes: fc.boolean(),
        units: fc.subarray(['a', 'b', 'c']),
        leftOut: fc.constantFrom(0, 0, 3),
      }),
      { minLength: 1, maxLength: 4 },
    )
    fc.assert(
      fc.property(plans, fc.integer({ min: 0, max: 60 }), (all, openedAgo) => {
        const known = all.map((one, at) => ({ minutesAgo: 55 - 10 * at, plan: one }))
        const seen = known.findLast(({ minutesAgo }) => minutesAgo >= openedAgo) ?? known[0]
        const newest = known.at(-1)
        const bits = (one: (typeof known)[number] | undefined) => [
          ...(one?.plan.reboots ? ['reboot'] : []),
          ...(one?.plan.touchesKubernetes ? ['kubernetes'] : []),
          ...(one?.plan.units ?? []),
          ...(one?.plan.leftOut ? ['rest'] : []),
        ]
        const isMore = bits(newest).some(bit => !bits(seen).includes(bit))
        expect(acts(opened(known, openedAgo))).toBe(!isMore)
      }),
    )
  })

  it('is of one rollout: a newer revision comes with another, for which it has to be opened anew', () => {
    const plans = [{ minutesAgo: 50, plan: plan(['a']) }]
    const older = opened(plans, 30)
    const [first] = older.rollouts
    if (!first) throw new Error('no rollout')
    const next = { ...first, id: 'r2', revision: 2, overrides: new Set<string>(), overriddenMs: new Map() }
    expect(acts({ ...older, rollouts: [next] })).toBe(false)
  })
})

describe('several reasons to boot', () => {
  it('come to one boot: who has booted since the rollout began is neither drained nor booted', () => {
    const hosts = clusterHosts(0, 1)
    const of = (boots: number | undefined, began: number | undefined, change: object = {}) => {
      const views = hosts.map(view => ({ ...view, boots, ...change }))
      const rollout = sampleRollout({ hosts, change: { action: 'reboot', revision: 0 } })
      const snapshot = sampleSnapshot({
        hosts: views,
        clusters: new Map([['home', sampleCluster(hosts)]]),
        rollouts: [{ ...rollout, hosts: rollout.hosts.map(host => ({ ...host, boots: began })) }],
      })
      return planRollouts(snapshot, NOW).grants.map(({ step, skipped }) => `${step}: ${skipped ?? 'given'}`)
    }
    expect(of(4, 3)).toEqual([
      'drain: it has booted since the rollout began',
      'act: it has booted since the rollout began',
      'prove: given',
    ])
    for (const [now, began] of [
      [3, 3],
      [2, 3],
      [undefined, 3],
      [4, undefined],
    ])
      expect(of(now, began)).toEqual(['drain: given'])
    // Its turn comes first: whoever is locked, or outside of its window, is not done by that.
    expect(of(4, 3, { lock: 'x' })).toEqual([])
    // What another machine has counted says nothing.
    expect(of(9, 3, { machine: 'another' })).not.toContain('act: it has booted since the rollout began')
  })
})

describe('a step that had nothing to do', () => {
  it('is done all the same: what was drained before it is given back, and nothing begins anew', () => {
    const hosts = clusterHosts(0, 1)
    const steps = ['drain', 'act', 'prove', 'soak', 'uncordon'] as const
    for (const drain of ['done', 'skipped'] as const) {
      const grants = steps.map(step =>
        sampleGrant(
          step,
          step === 'act' || (step !== 'prove' && step !== 'soak' && drain === 'skipped') ? 'skipped' : 'done',
          NOW,
        ),
      )
      const rollout = sampleRollout({
        hosts,
        grants: { w1: grants },
        change: { action: 'reboot', revision: 0 },
      })
      const clusters = new Map([['home', sampleCluster(hosts)]])
      const decision = planRollouts(sampleSnapshot({ hosts, clusters, rollouts: [rollout] }), NOW)
      expect(decision.grants).toEqual([])
      expect(decision.moves).toMatchObject([{ state: 'succeeded', reason: '' }])
    }
  })
})
