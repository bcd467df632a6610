// A setting that can be written down and changes nothing may not exist.
import { describe, expect, it } from 'vitest'
import { planRollouts } from './plan-rollouts.ts'
import type { FrozenSettings, Grant, StepKind } from './rollout-record.ts'
import type { HostView } from './rollout-snapshot.ts'
import { sampleHost, sampleRollout, sampleSnapshot } from './testing/sample.ts'
import { clusterHosts, sampleCluster } from './testing/sample-cluster.ts'

const NOW = 1_800_000_000_000
const MINUTE = 60_000

const hosts = (count: number) => Array.from({ length: count }, (_, index) => sampleHost(`n${index + 10}`))

let ids = 0
function grant(
  step: StepKind,
  change: Partial<Grant> & { readonly outcome?: 'done' | 'failed' } = {},
): Grant {
  const { outcome, ...rest } = change
  ids += 1
  return {
    id: ids,
    step,
    attempt: 1,
    grantedMs: NOW - 5 * MINUTE,
    operation: '',
    end: outcome && { outcome, reason: outcome === 'failed' ? 'rolled back' : '', atMs: NOW - 2 * MINUTE },
    ...rest,
  }
}
const changed = () =>
  (['act', 'soak'] as const).map(step => grant(step, { outcome: 'done', operation: 'o1' }))
const failed = () => [grant('act', { outcome: 'failed' })]

interface World {
  readonly hosts: readonly HostView[]
  readonly grants?: Readonly<Record<string, readonly Grant[]>>
  readonly canaries?: readonly string[]
}

/** What is decided about one rollout with these settings. */
function decide({ hosts: all, grants = {}, canaries = [] }: World, settings: Partial<FrozenSettings>) {
  const rollout = sampleRollout({ hosts: all, grants, canaries, settings })
  const home = all.filter(({ cluster }) => cluster === 'home')
  const snapshot = sampleSnapshot({
    hosts: all,
    rollouts: [rollout],
    clusters: home.length > 0 ? new Map([['home', sampleCluster(home)]]) : new Map(),
  })
  const decision = planRollouts(snapshot, NOW)
  return {
    grants: decision.grants.map(({ host, step }) => `${host} ${step}`),
    closed: decision.closings.map(({ host, end }) => `${host} ${end.outcome}`),
    moves: decision.moves.map(({ state, revert }) => (revert ? `${state}, is taken back` : state)),
  }
}

const all = { kind: 'percent', percent: 100 } as const
const soaking = { n10: [grant('act', { outcome: 'done' }), grant('soak', { grantedMs: NOW - 2 * MINUTE })] }
const racks = (...names: readonly string[]) =>
  names.map((rack, index) => sampleHost(`n${index + 10}`, { labels: { rack } }))
/** Of the nodes of a cluster only workers are counted by it; their prefetch is over. */
const workers = () => {
  const nodes = clusterHosts(1, 4)
  const fetched = Object.fromEntries(
    nodes.map(({ host }) => [host, [grant('prefetch', { outcome: 'done' })]]),
  )
  const server = [...(['prefetch', 'snapshot', 'drain', 'act', 'prove', 'soak', 'uncordon'] as const)].map(
    step => grant(step, { outcome: 'done' }),
  )
  return { hosts: nodes, grants: { ...fetched, s1: server } }
}

type Setting = Exclude<keyof FrozenSettings, 'drainLimitMs'>

/** For each setting a world, two values, and what is decided with either. How long a drain may take is asked of its node. */
const SETTINGS: Readonly<
  Record<
    Setting,
    readonly [
      world: World,
      one: Partial<FrozenSettings>,
      other: Partial<FrozenSettings>,
      wanted: readonly [one: object, other: object],
    ]
  >
> = {
  maxUnavailable: [
    workers(),
    { maxUnavailable: { kind: 'number', number: 1 } },
    { maxUnavailable: { kind: 'number', number: 3 } },
    [{ grants: { length: 1 } }, { grants: { length: 3 } }],
  ],
  maxUnavailableAlone: [
    { hosts: hosts(10) },
    { maxUnavailableAlone: { kind: 'percent', percent: 10 } },
    { maxUnavailableAlone: { kind: 'percent', percent: 30 } },
    [{ grants: ['n10 act'] }, { grants: ['n10 act', 'n11 act', 'n12 act'] }],
  ],
  soakMs: [
    { hosts: hosts(2), grants: soaking },
    { soakMs: MINUTE },
    { soakMs: 3 * MINUTE },
    [{ closed: ['n10 done'] }, { closed: [], grants: [] }],
  ],
  canarySoakMs: [
    { hosts: hosts(2), grants: soaking, canaries: ['n10'] },
    { canarySoakMs: MINUTE },
    { canarySoakMs: 3 * MINUTE },
    [{ closed: ['n10 done'] }, { closed: [], grants: [] }],
  ],
  onFailure: [
    { hosts: hosts(3), grants: { n10: changed(), n11: failed() } },
    { onFailure: 'stop' },
    { onFailure: 'revert' },
    [{ moves: ['failed'] }, { moves: ['failed, is taken back'] }],
  ],
  maxFailures: [
    { hosts: hosts(4), grants: { n10: failed(), n11: failed() } },
    { onFailure: 'continue', maxFailures: 2, maxUnavailableAlone: all },
    { onFailure: 'continue', maxFailures: 3, maxUnavailableAlone: all },
    [
      { grants: [], moves: ['failed'] },
      { grants: ['n12 act', 'n13 act'], moves: [] },
    ],
  ],
  spread: [
    { hosts: racks('a', 'a', 'b') },
    { spread: 'rack', maxUnavailableAlone: all },
    { spread: undefined, maxUnavailableAlone: all },
    [{ grants: ['n10 act', 'n12 act'] }, { grants: ['n10 act', 'n11 act', 'n12 act'] }],
  ],
  prefetch: [
    { hosts: hosts(2) },
    { prefetch: true },
    { prefetch: false },
    [{ grants: ['n10 prefetch', 'n11 prefetch'] }, { grants: ['n10 act'] }],
  ],
  direct: [
    { hosts: [sampleHost('n10', { connected: false })] },
    { direct: false },
    { direct: true },
    [{ grants: [] }, { grants: ['n10 act'] }],
  ],
  awayMs: [
    {
      hosts: [sampleHost('n10'), sampleHost('n11', { connected: false })],
      grants: { n10: [grant('act', { outcome: 'done' }), grant('soak', { outcome: 'done' })] },
    },
    { awayMs: MINUTE },
    { awayMs: 10 * MINUTE },
    [{ moves: ['succeeded'] }, { moves: [] }],
  ],
}

describe('the settings of a rollout', () => {
  it.each(Object.entries(SETTINGS))('T43: %s changes what is decided', (_, [world, one, other, wanted]) => {
    const decisions = [decide(world, one), decide(world, other)]
    expect(decisions[0]).not.toEqual(decisions[1])
    expect(decisions).toMatchObject(wanted)
  })

  it('N39: failures are counted by hosts, however often one of them failed or was told so', () => {
    const thrice = [1, 2, 3].map(attempt => grant('act', { outcome: 'failed', attempt }))
    const settings = { onFailure: 'continue', maxFailures: 2, maxUnavailableAlone: all } as const
    expect(decide({ hosts: hosts(3), grants: { n10: thrice } }, settings).grants).toEqual([
      'n11 act',
      'n12 act',
    ])
    const both = { n10: thrice, n11: failed() }
    expect(decide({ hosts: hosts(3), grants: both }, settings)).toMatchObject({
      grants: [],
      moves: ['failed'],
    })
  })

  it('T44: a budget is at least one host, however small its share', () => {
    const small = { maxUnavailableAlone: { kind: 'percent', percent: 1 } } as const
    for (const count of [1, 2, 5, 99]) {
      expect(decide({ hosts: hosts(count) }, small).grants).toEqual(['n10 act'])
    }
  })
})
