import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type ForeseenHost, Foresight, foresee } from './foresee.ts'
import { isDisruptive, stepsOf } from './host-steps.ts'
import { planRollouts } from './plan-rollouts.ts'
import type { RolloutRecord } from './rollout-record.ts'
import type { HostView, OperationView, RolloutSnapshot } from './rollout-snapshot.ts'
import { sampleGrant } from './testing/grants.ts'
import { sampleHost, sampleRollout, sampleSnapshot } from './testing/sample.ts'
import { clusterHosts, sampleCluster } from './testing/sample-cluster.ts'

const NOW = 1_000_000

const wavesOf = (order: readonly ForeseenHost[]) =>
  order.flatMap(({ host, wave }) => (wave === undefined ? [] : [`${wave} ${host}`]))

const alone = (count: number, change: (index: number) => Partial<HostView> = () => ({})) =>
  Array.from({ length: count }, (_, index) =>
    sampleHost(`n${String(index + 1).padStart(5, '0')}`, change(index)),
  )

describe('the order of a rollout that is only thought through', () => {
  it('is the whole order, however many hosts go one at a time', () => {
    const hosts = alone(1_000)
    const order = foresee(sampleSnapshot({ hosts }), sampleRollout({ hosts }), NOW)
    expect(order.map(({ wave }) => wave)).toEqual(hosts.map((_, index) => index + 1))
    expect(order.map(({ host }) => host)).toEqual(hosts.map(({ host }) => host))
  })

  it('leaves out whose turn never comes, and says what holds it', () => {
    const hosts = alone(30, index => (index < 12 ? { lock: 'a guest runs on it' } : {}))
    const order = foresee(sampleSnapshot({ hosts }), sampleRollout({ hosts }), NOW)
    expect(wavesOf(order)).toEqual(hosts.slice(12).map(({ host }, index) => `${index + 1} ${host}`))
    expect(order.at(-1)).toMatchObject({ host: 'n00012', wave: undefined, waits: [{ gate: 'lock' }] })
  })

  it('goes round racks, and comes back to those that had to wait for another of theirs', () => {
    const hosts = alone(60, index => ({ labels: { rack: index < 40 ? 'a' : `r${index}` } }))
    const three = { kind: 'number', number: 3 } as const
    const settings = { maxUnavailableAlone: three, spread: 'rack' }
    const order = foresee(sampleSnapshot({ hosts }), sampleRollout({ hosts, settings }), NOW)
    expect(wavesOf(order).slice(0, 6)).toEqual([
      ...['1 n00001', '1 n00041', '1 n00042', '2 n00002', '2 n00043', '2 n00044'],
    ])
    expect(order.at(-1)).toMatchObject({ host: 'n00040', wave: 40 })
  })

  it('says of whom pods are moved off, and does not guess where only a plan would tell', () => {
    const hosts = clusterHosts(1, 3)
    const clusters = new Map([['home', sampleCluster(hosts, { w3: { nodeless: true } })]])
    const plan = (id: string, reboots: boolean): [string, OperationView] => [
      id,
      {
        id,
        state: 'done',
        reason: '',
        endedMs: 0,
        retryDelaysMs: [],
        untouched: false,
        plan: { reboots, touchesKubernetes: false },
      },
    ]
    const operations = new Map([plan('boots', true), plan('switches', false)])
    const snapshot = sampleSnapshot({ hosts, clusters, operations })
    const plans = new Map([
      ['s1', 'boots'],
      ['w1', 'switches'],
    ])
    const told = (rollout: RolloutRecord) =>
      new Foresight(snapshot, rollout, NOW, plans)
        .order()
        .map(({ host, drained, steps }) => [
          host,
          drained,
          steps.includes('drain'),
          steps.includes('uncordon'),
        ])
        .toSorted()
    expect(told(sampleRollout({ hosts }))).toEqual([
      ['s1', true, true, true],
      ['w1', false, false, false],
      ['w2', undefined, true, true],
      ['w3', false, false, false],
    ])
    expect(told(sampleRollout({ hosts, change: { action: 'reboot', revision: 0 } }))).toEqual([
      ['s1', true, true, true],
      ['w1', true, true, true],
      ['w2', true, true, true],
      ['w3', false, false, false],
    ])
  })

  it('is that of the planner when it is shown everybody, in any fleet', () => {
    fc.assert(
      fc.property(fleets, ({ snapshot, rollout }) => {
        expect(wavesOf(foresee(snapshot, rollout, NOW))).toEqual(byThePlannerAlone(snapshot, rollout))
      }),
      { numRuns: 150 },
    )
  })
})

/** Fleets of two clusters and hosts outside, some of which are locked, away, named by others, canaries, or in racks. */
const fleets = fc
  .record({
    seed: fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 60, maxLength: 60 }),
    alone: fc.integer({ min: 0, max: 40 }),
    workers: fc.integer({ min: 0, max: 25 }),
    racks: fc.constantFrom(0, 0, 3, 15),
    budget: fc.constantFrom(1, 2, 7),
    canaries: fc.integer({ min: 0, max: 2 }),
    follows: fc.boolean(),
  })
  .map(({ seed, racks, budget, follows, ...counts }) => {
    const changed = (view: HostView, index: number): HostView => {
      const kind = seed[index % seed.length]
      const labels = racks > 0 ? { rack: `r${(index * 7) % racks}` } : {}
      return { ...view, labels, ...(kind === 0 && { lock: 'x' }), ...(kind === 1 && { connected: false }) }
    }
    const named = (cluster: string) =>
      clusterHosts(3, counts.workers, cluster).map(view => ({ ...view, host: `${cluster}-${view.host}` }))
    const clusters = ['home', 'away'].map(name => ({ name, hosts: named(name).map(changed) }))
    const hosts = [...clusters.flatMap(one => one.hosts), ...alone(counts.alone).map(changed)]
    const amount = { kind: 'number', number: budget } as const
    const whole = sampleRollout({
      hosts,
      canaries: hosts.slice(-counts.canaries || hosts.length).map(({ host }) => host),
      settings: {
        maxUnavailable: amount,
        maxUnavailableAlone: amount,
        ...(racks > 0 && { spread: 'rack' }),
      },
    })
    const edges = whole.hosts.map((host, index) => {
      const before = whole.hosts[index - 3]
      return before && seed[(index * 3) % seed.length] === 4 ? { ...host, after: [before.host] } : host
    })
    const snapshot = sampleSnapshot({
      hosts,
      clusters: new Map(
        clusters.map(({ name, hosts: members }) => [name, sampleCluster(members, {}, { name })]),
      ),
      ...(follows && { follows: new Map([['away', ['home']]]) }),
    })
    return { snapshot, rollout: { ...whole, hosts: edges } }
  })

/** As the order would be found without any thought of time: everybody is shown to the planner in every wave. */
function byThePlannerAlone(snapshot: RolloutSnapshot, rollout: RolloutRecord): readonly string[] {
  const fetched = [sampleGrant('prefetch', 'done', NOW)]
  let current = { ...rollout, hosts: rollout.hosts.map(host => ({ ...host, grants: fetched })) }
  const found: string[] = []
  for (let wave = 1; ; wave++) {
    const { grants } = planRollouts({ ...snapshot, rollouts: [current] }, NOW)
    const begun = new Set(grants.filter(({ step }) => isDisruptive(step)).map(({ host }) => host))
    if (begun.size === 0) return found
    found.push(...current.hosts.filter(({ host }) => begun.has(host)).map(({ host }) => `${wave} ${host}`))
    const hosts = current.hosts.map(host =>
      begun.has(host.host)
        ? { ...host, grants: stepsOf(rollout, host).map(step => sampleGrant(step, 'done', NOW)) }
        : host,
    )
    current = { ...current, hosts }
  }
}
