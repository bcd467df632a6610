import { describe, expect, it } from 'vitest'
import type { Wait } from './decision.ts'
import { gatesAwaited } from './own-gates.ts'
import { planRollouts } from './plan-rollouts.ts'
import type { HostView, OperationView, RolloutSnapshot } from './rollout-snapshot.ts'
import { sampleGrant } from './testing/grants.ts'
import { sampleHost, sampleRollout, sampleSnapshot } from './testing/sample.ts'
import { clusterHosts, sampleCluster } from './testing/sample-cluster.ts'

const NOW = 1_800_000_000_000

function waits(snapshot: RolloutSnapshot, host: string, nowMs = NOW): readonly Wait[] {
  return planRollouts(snapshot, nowMs).waits.get('r1')?.get(host) ?? []
}

const gates = (...input: Parameters<typeof waits>) => waits(...input).map(({ gate }) => gate)
const grants = (snapshot: RolloutSnapshot, nowMs = NOW) =>
  planRollouts(snapshot, nowMs).grants.flatMap(({ rollout, host, step, skipped }) =>
    skipped === undefined ? [`${rollout} ${host} ${step}`] : [],
  )
const reboot = (hosts: readonly HostView[], input: Partial<Parameters<typeof sampleRollout>[0]> = {}) =>
  sampleRollout({ hosts, ...input, change: { action: 'reboot', ...input.change } })
const inCluster = (hosts: readonly HostView[], ...rest: [Parameters<typeof sampleCluster>[1]?]) =>
  new Map([['home', sampleCluster(hosts, ...rest)]])

describe('gates of rollouts', () => {
  it('T42: nobody can say anything of the cluster, so its hosts wait, and no operator opens that', () => {
    const hosts = clusterHosts(3, 1)
    const change = { overrides: new Set(['w1 health', 'w1 unknown', 'w1 servers']) }
    const snapshot = sampleSnapshot({ hosts, rollouts: [reboot(hosts, { change })] })
    expect(gates(snapshot, 'w1')).toEqual(['unknown'])
    expect(waits(snapshot, 'w1')[0]?.reason).toBe(
      'nobody has looked at cluster home since the coordinator started',
    )
    const strange = inCluster(hosts, { w1: { joined: undefined } })
    expect(gates({ ...snapshot, clusters: strange }, 'w1')).toContain('unknown')
  })

  it.each([undefined, 'dead'] as const)(
    'T42: nobody can say whether a datastore agrees, so no server leaves it: %s',
    how => {
      const hosts = clusterHosts(3, 1)
      const leaving = (name: string, clusters: RolloutSnapshot['clusters']) => {
        const change = { action: 'leave', how } as const
        const rollouts = [sampleRollout({ hosts: hosts.filter(({ host }) => host === name), change })]
        return sampleSnapshot({ hosts, rollouts, clusters })
      }
      expect(waits(leaving('s2', new Map()), 's2')).toEqual([
        {
          gate: 'quorum',
          reason: 'nobody can say whether the datastore of cluster home agrees without it',
          opens: 'its servers say what they see',
        },
      ])
      // What is not on record of a machine that is gone holds nothing by itself, but the others must agree without it.
      const strange = { s2: { joined: undefined } }
      expect(gates(leaving('s2', inCluster(hosts, { ...strange, s3: { healthy: false } })), 's2')).toEqual([
        'quorum',
      ])
      expect(grants(leaving('s2', inCluster(hosts, strange)))).toEqual(['r1 s2 act'])
      expect(grants(leaving('w1', new Map()))).toEqual(['r1 w1 act'])
    },
  )

  it('T42: nobody can say how the cluster of a host stands, so no other one of its rack goes', () => {
    const labels = { rack: 'one' }
    const alone = sampleHost('a', { labels })
    const hosts = [alone, ...clusterHosts(1, 0).map(host => ({ ...host, labels }))]
    const rollouts = [reboot([alone], { settings: { spread: 'rack' } })]
    const snapshot = sampleSnapshot({ hosts, rollouts })
    expect(waits(snapshot, 'a')).toMatchObject([
      { gate: 'spread', reason: 's1 has rack one too and is away: nobody can say how its cluster stands' },
    ])
    expect(grants({ ...snapshot, clusters: inCluster(hosts.slice(1)) })).toEqual(['r1 a act'])
  })

  it('T42: a window whose clock cannot be read is closed and says so', () => {
    const windows = [{ days: [1, 2, 3, 4, 5, 6, 7], fromMinute: 0, toMinute: 0, timeZone: 'Mars/Base' }]
    const hosts = [sampleHost('a', { windows })]
    const snapshot = sampleSnapshot({ hosts, rollouts: [reboot(hosts)] })
    expect(waits(snapshot, 'a')).toMatchObject([
      { gate: 'window', reason: expect.stringContaining('clock of Mars/Base cannot be read') },
    ])
  })

  it('T42: how many fell silent cannot be told, so nothing is begun', () => {
    const hosts = [sampleHost('a')]
    const silence = { known: Number.NaN, silent: 0, percent: 30 }
    expect(gates(sampleSnapshot({ hosts, rollouts: [reboot(hosts)], silence }), 'a')).toEqual(['silence'])
  })

  it('T46: the window has closed since the drain, so the node is given back, and everything begins anew in the next', () => {
    const hosts = clusterHosts(0, 1)
    const evening = { days: [1, 2, 3, 4, 5, 6, 7], fromMinute: 60, toMinute: 120, timeZone: 'UTC' }
    const inside = Date.UTC(2027, 0, 1, 1, 58)
    const drained = [sampleGrant('drain', 'done', inside)]
    const snapshot = (more: typeof drained) =>
      sampleSnapshot({
        hosts,
        clusters: inCluster(hosts, { w1: { cordonedBy: 'r1' } }),
        windows: [evening],
        rollouts: [reboot(hosts, { grants: { w1: [...drained, ...more] } })],
      })
    expect(grants(snapshot([]), inside + 60_000)).toEqual(['r1 w1 act'])
    expect(grants(snapshot([]), inside + 120_000)).toEqual(['r1 w1 uncordon'])
    const back = [sampleGrant('uncordon', 'done', inside + 180_000)]
    expect(gates(snapshot(back), 'w1', inside + 180_000)).toEqual(['window'])
    expect(planRollouts(snapshot(back), inside + 24 * 3_600_000).grants).toMatchObject([
      { host: 'w1', step: 'drain', attempt: 2 },
    ])
  })

  it('gives back a drained node whose rollout is paused, and leaves alone what was given back again and again', () => {
    const hosts = clusterHosts(0, 1)
    const drained = [sampleGrant('drain', 'done', NOW)]
    const snapshot = (given: readonly ReturnType<typeof sampleGrant>[], state: 'paused' | 'running') =>
      sampleSnapshot({
        hosts,
        clusters: inCluster(hosts, { w1: { cordonedBy: 'r1' } }),
        rollouts: [reboot(hosts, { grants: { w1: given }, change: { action: 'reboot', state } })],
      })
    expect(grants(snapshot(drained, 'paused'), NOW + 60_000)).toEqual([])
    expect(grants(snapshot(drained, 'paused'), NOW + 300_000)).toEqual(['r1 w1 uncordon'])
    const often = Array.from({ length: 10 }, (_, index) => [
      sampleGrant('drain', 'done', NOW, { attempt: index + 1 }),
      sampleGrant('uncordon', 'done', NOW, { attempt: index + 1 }),
    ]).flat()
    const decision = planRollouts(snapshot(often, 'running'), NOW)
    expect(decision.grants).toEqual([])
    expect(decision.moves).toMatchObject([{ state: 'succeeded', reason: 'left behind: w1' }])
  })

  it('T57: two rollouts never do something to one host at the same time', () => {
    const hosts = [sampleHost('a')]
    const first = reboot(hosts, { grants: { a: [sampleGrant('act', undefined, NOW)] } })
    const change = { id: 'r2', after: ['r1'], overrides: new Set(['a rollout', 'a budget']) }
    const second = reboot(hosts, { change })
    const decision = planRollouts(
      sampleSnapshot({ hosts, rollouts: [first, second], others: new Map([['r1', 'running']]) }),
      NOW,
    )
    expect(decision.grants).toEqual([])
    expect(decision.waits.get('r2')?.get('a')).toMatchObject([
      { gate: 'busy', reason: 'rollout r1 does something to it' },
    ])
  })

  it.each([
    [
      'an operator cordoned, and says so',
      { cordonedBy: 'x', cordonStays: true },
      'stays cordoned: an operator',
    ],
    ['somebody cordoned without us', {}, 'no cordon of ours'],
  ])('leaves a node cordoned that %s, whether it is done, failed or handed back', (_, member, why) => {
    const hosts = clusterHosts(0, 1)
    const steps = ['drain', 'act', 'prove', 'soak'] as const
    const decide = (grants: readonly ReturnType<typeof sampleGrant>[], change = {}, nowMs = NOW) =>
      planRollouts(
        sampleSnapshot({
          hosts,
          clusters: inCluster(hosts, { w1: member }),
          rollouts: [reboot(hosts, { grants: { w1: grants }, change })],
        }),
        nowMs,
      )
    const done = decide(steps.map(step => sampleGrant(step, 'done', NOW)))
    const failed = decide([sampleGrant('drain', 'failed', NOW)])
    const handedBack = decide([sampleGrant('drain', 'done', NOW)], { state: 'paused' }, NOW + 300_000)
    for (const { grants } of [done, failed, handedBack]) {
      expect(grants[0]).toMatchObject({ host: 'w1', step: 'uncordon', skipped: expect.stringContaining(why) })
    }
    expect(done.moves).toMatchObject([{ state: 'succeeded' }])
  })

  it('gives back what is cordoned though others are away: an uncordon waits for no budget', () => {
    const hosts = clusterHosts(0, 2)
    const clusters = inCluster(hosts, { w1: { cordonedBy: 'x' }, w2: { cordonedBy: 'y' } })
    const rollout = sampleRollout({ hosts, change: { action: 'uncordon' } })
    expect(grants(sampleSnapshot({ hosts, clusters, rollouts: [rollout] }))).toEqual([
      'r1 w1 act',
      'r1 w2 act',
    ])
  })

  it('waits for the gates of the fleet directory, asked on the host after the last step of its cluster, and for nothing older', () => {
    const hosts = clusterHosts(0, 2)
    const at = (askedMs: number, problem?: string) => new Map([['machine-w1', { askedMs, problem }]])
    const drained = {
      w2: [sampleGrant('drain', 'done', NOW - 9_000), sampleGrant('uncordon', 'done', NOW - 5_000)],
    }
    const snapshot = (
      answers: RolloutSnapshot['gates'],
      change: Parameters<typeof reboot>[1] = { grants: drained },
    ) =>
      sampleSnapshot({ hosts, clusters: inCluster(hosts), gates: answers, rollouts: [reboot(hosts, change)] })
    const held = (answers: RolloutSnapshot['gates'], change?: Parameters<typeof reboot>[1]) =>
      waits(snapshot(answers, change), 'w1').map(({ gate, reason }) => `${gate}: ${reason}`)
    const silent = ['checks: its gates have not answered since the last step']
    expect(held(undefined)).toEqual([])
    expect(held(new Map())).toEqual(silent)
    expect(held(at(NOW - 5_000))).toEqual(silent)
    expect(held(at(NOW - 4_999))).toEqual([])
    expect(held(at(NOW + 1))).toEqual(silent)
    expect(held(at(NOW - 60_001), {})).toEqual(silent)
    expect(held(at(NOW - 4_000, 'gate web is unhealthy: no'))).toEqual(['checks: gate web is unhealthy: no'])
    expect(held(at(NOW - 4_000, 'its gates could not be asked: no'))).toHaveLength(1)
    // Its own drain is a step, too.
    const own = { grants: { w1: [sampleGrant('drain', 'done', NOW - 1_000)] } }
    expect(held(at(NOW - 2_000), own)).toEqual(silent)
    expect(grants(snapshot(at(NOW - 500), own))).toContain('r1 w1 act')
    const opened = { change: { overrides: new Set(['w1 checks', 'w1 budget']) } }
    expect(held(new Map(), opened)).toEqual([])
    // A way back waits for no gate, and whoever certainly has none is not asked.
    const alone = [sampleHost('a')]
    const back = sampleRollout({ hosts: alone, change: { action: 'rollback', revision: 0 } })
    expect(grants(sampleSnapshot({ hosts: alone, gates: new Map(), rollouts: [back] }))).toEqual(['r1 a act'])
    const none = [sampleHost('a', { ungated: true })]
    expect(grants(sampleSnapshot({ hosts: none, gates: new Map(), rollouts: [reboot(none)] }))).toEqual([
      'r1 a act',
    ])
  })

  it('tell how a host is begun with whose own gate is ill, and which the change would make well', () => {
    const hosts = [sampleHost('a')]
    const answer = { askedMs: NOW, problem: 'gate web is unhealthy: no' }
    const gated = new Map([['machine-a', answer]])
    const [wait] = waits(sampleSnapshot({ hosts, gates: gated, rollouts: [reboot(hosts)] }), 'a')
    expect(wait?.opens).toContain(
      'where this change is the cure: `muster rollout override r1 a checks --why TEXT`',
    )
  })

  describe('of hosts that somebody named by hand', () => {
    const byHand = (hosts: readonly HostView[], input: Partial<Parameters<typeof sampleRollout>[0]> = {}) =>
      sampleRollout({ hosts, ...input, settings: { direct: true, ...input.settings } })
    const off = { connected: false, connectedSinceMs: undefined }

    it('hold them as they hold everybody', () => {
      const three = ['a', 'b', 'c'].map(name => sampleHost(name, { labels: { rack: 'one' } }))
      const plain = sampleSnapshot({ hosts: three, rollouts: [byHand(three)] })
      expect(grants(plain)).toEqual(['r1 a act'])
      expect(gates(plain, 'b')).toEqual(['budget'])
      const settings = { spread: 'rack', maxUnavailableAlone: { kind: 'percent', percent: 100 } } as const
      expect(gates(sampleSnapshot({ hosts: three, rollouts: [byHand(three, { settings })] }), 'b')).toEqual([
        'spread',
      ])
      const canary = byHand(three, { canaries: ['c'] })
      expect(gates(sampleSnapshot({ hosts: three, rollouts: [canary] }), 'a')).toContain('canary')
      const silence = { known: 4, silent: 3, percent: 30 }
      expect(gates({ ...plain, silence }, 'a')).toEqual(['silence'])
      expect(gates({ ...plain, gates: new Map() }, 'a')).toEqual(['checks'])
      const failed = [sampleHost('a', { quarantined: new Set([1]) })]
      expect(gates(sampleSnapshot({ hosts: failed, rollouts: [byHand(failed)] }), 'a')).toEqual([
        'quarantine',
      ])
      const acted = { a: [sampleGrant('act', 'done', NOW - 1_000)] }
      const soaks = sampleSnapshot({ hosts: three, rollouts: [byHand(three, { grants: acted })] })
      expect(grants(soaks)).toEqual(['r1 a soak'])
    })

    it('let them go though others use up the budget that are off by themselves and that nobody named, and record it', () => {
      const hosts = [sampleHost('a'), sampleHost('b'), sampleHost('gone', off)]
      const named = hosts.slice(0, 2)
      const plan = (rollout: ReturnType<typeof byHand>, views = hosts) =>
        planRollouts(sampleSnapshot({ hosts: views, rollouts: [rollout] }), NOW)
      const decision = plan(byHand(named))
      // One at a time all the same.
      expect(decision.grants.map(({ host }) => host)).toEqual(['a'])
      expect(decision.opened).toEqual([
        {
          rollout: 'r1',
          host: 'a',
          gate: 'budget',
          why: 'named by hand, and does not wait for who is off by itself: gone',
        },
      ])
      expect(decision.waits.get('r1')?.get('b')).toMatchObject([{ gate: 'budget' }])
      // Who was selected waits, and so does who was named together with what is off.
      expect(plan(sampleRollout({ hosts: named }))).toMatchObject({ grants: [], opened: [] })
      expect(plan(byHand([...named, ...hosts.slice(2)], { settings: { direct: false } })).grants).toEqual([])
      // What is changed on it by anybody keeps it away, and is waited for.
      const busy = hosts.map(view => (view.host === 'gone' ? { ...view, busyWith: 'op' } : view))
      expect(plan(byHand(named), busy)).toMatchObject({ grants: [], opened: [] })
      // Nothing is recorded where nothing is in the way, or where an operator has opened it.
      expect(plan(byHand(named), hosts.slice(0, 2)).opened).toEqual([])
      expect(plan(byHand(named, { change: { overrides: new Set(['a budget']) } })).opened).toEqual([])
    })

    it('let an order lie ready for a machine that is off, but not where its own gates are asked first', () => {
      const hosts = [sampleHost('a', off)]
      const snapshot = sampleSnapshot({ hosts, rollouts: [byHand(hosts)] })
      expect(grants(snapshot)).toEqual(['r1 a act'])
      expect(gates({ ...snapshot, gates: new Map() }, 'a')).toEqual(['away'])
    })

    it('never take two nodes of a rack at once', () => {
      const hosts = clusterHosts(1, 2).map(view => ({ ...view, labels: { rack: 'one' } }))
      const drain = (id: string, host: string) =>
        byHand(
          hosts.filter(view => view.host === host),
          {
            settings: { spread: 'rack', maxUnavailable: { kind: 'number', number: 2 } },
            change: { id, action: 'drain' },
          },
        )
      const decision = planRollouts(
        sampleSnapshot({
          hosts,
          clusters: inCluster(hosts),
          rollouts: [drain('r1', 'w1'), drain('r2', 'w2')],
        }),
        NOW,
      )
      expect(decision.grants.map(({ host }) => host)).toEqual(['w1'])
      expect(decision.waits.get('r2')?.get('w2')).toMatchObject([{ gate: 'spread' }])
    })
  })

  it('are asked again before the act whether the node, and the other servers, are still well', () => {
    const hosts = clusterHosts(3, 1)
    const drained = [sampleGrant('drain', 'done', NOW - 1_000)]
    const snapshot = (
      host: string,
      members: Parameters<typeof sampleCluster>[1],
      overrides: readonly string[] = [],
    ) =>
      sampleSnapshot({
        hosts,
        clusters: inCluster(hosts, members),
        rollouts: [
          reboot(
            hosts.filter(view => view.host === host),
            { grants: { [host]: drained }, change: { overrides: new Set(overrides) } },
          ),
        ],
      })
    // A cordon of ours leaves it Ready.
    expect(grants(snapshot('w1', { w1: { cordonedBy: 'r1' } }))).toEqual(['r1 w1 act'])
    const ill = { w1: { cordonedBy: 'r1', ready: false } }
    expect(waits(snapshot('w1', ill), 'w1')).toMatchObject([
      { gate: 'health', reason: 'its node is not Ready' },
    ])
    expect(grants(snapshot('w1', ill), NOW + 300_000)).toEqual(['r1 w1 uncordon'])
    expect(grants(snapshot('w1', ill, ['w1 health']))).toEqual(['r1 w1 act'])
    expect(gates(snapshot('w1', { w1: { ready: undefined } }), 'w1')).toEqual(['health'])
    // The datastore of the other still agrees; its node is ill.
    expect(grants(snapshot('s2', {}))).toEqual(['r1 s2 act'])
    expect(waits(snapshot('s2', { s3: { ready: false } }), 's2')).toMatchObject([
      { gate: 'health', reason: 'server s3 of its cluster is not well' },
    ])
    expect(grants(snapshot('s2', { s3: { ready: false } }, ['s2 budget']))).toEqual(['r1 s2 act'])
    expect(grants(snapshot('w1', { s3: { ready: false } }))).toEqual(['r1 w1 act'])
  })

  it('asks those hosts for their gates that wait for nothing else', () => {
    const hosts = [sampleHost('a'), sampleHost('b', { lock: 'x' }), sampleHost('c')]
    const snapshot = sampleSnapshot({ hosts, gates: new Map(), rollouts: [reboot(hosts)] })
    expect([...gatesAwaited(snapshot, planRollouts(snapshot, NOW))]).toEqual(['machine-a', 'machine-c'])
    const done = sampleSnapshot({ hosts, rollouts: [reboot(hosts)] })
    expect([...gatesAwaited(done, planRollouts(done, NOW))]).toEqual([])
  })

  it('restarts the Kubernetes of a host as it reboots a host: drained before, behind the same gates, and not where none runs', () => {
    const hosts = clusterHosts(1, 2)
    const restart = (given: Readonly<Record<string, readonly ReturnType<typeof sampleGrant>[]>> = {}) =>
      sampleRollout({ hosts, grants: given, change: { action: 'restart', revision: 0 } })
    const snapshot = (
      rollouts: RolloutSnapshot['rollouts'],
      change: Omit<Partial<RolloutSnapshot>, 'hosts'> = {},
    ) => sampleSnapshot({ hosts, clusters: inCluster(hosts), rollouts, ...change })
    expect(grants(snapshot([restart()]))).toEqual(['r1 s1 drain'])
    expect(gates(snapshot([restart()]), 'w1')).toEqual(['servers'])
    for (const change of [
      { silence: { known: 10, silent: 5, percent: 30 } },
      { windows: [{ days: [], fromMinute: 0, toMinute: 1, timeZone: 'UTC' }] },
      { halted: 'the store is older' },
      { clusters: inCluster(hosts, { s1: { ready: false } }) },
    ]) {
      expect(grants(snapshot([restart()], change))).toEqual([])
    }
    const drained = { s1: [sampleGrant('drain', 'done', NOW)] }
    expect(grants(snapshot([restart(drained)]))).toEqual(['r1 s1 act'])
    const acted = { s1: [...drained.s1, sampleGrant('act', 'done', NOW)] }
    expect(grants(snapshot([restart(acted)]))).toEqual(['r1 s1 prove'])
    const left = inCluster(hosts, { s1: { joined: false } })
    const [skipped] = planRollouts(snapshot([restart()], { clusters: left }), NOW).grants.filter(
      ({ host, step }) => host === 's1' && step === 'act',
    )
    expect(skipped).toMatchObject({ skipped: 'it runs no Kubernetes' })
  })

  it('T39: servers go one at a time though every gate that can be was opened, and the one that leads goes last', () => {
    const hosts = clusterHosts(3, 0)
    const names = ['budget', 'servers', 'health', 'spread', 'order', 'canary']
    const overrides = new Set(hosts.flatMap(({ host }) => names.map(gate => `${host} ${gate}`)))
    const snapshot = sampleSnapshot({
      hosts,
      clusters: inCluster(hosts),
      rollouts: [reboot(hosts, { change: { overrides } })],
    })
    expect(planRollouts(snapshot, NOW).grants).toHaveLength(1)
    expect(gates(snapshot, 's2')).toEqual(['quorum'])
    const plain = { ...snapshot, rollouts: [reboot(hosts)] }
    expect(grants(plain)).toEqual(['r1 s2 drain'])
    expect(gates(plain, 's1')).toEqual(['servers'])
    expect(gates(plain, 's3')).toEqual(['budget', 'quorum'])
  })

  it('T39: who leads the datastore goes last, whoever was first; while nobody knows who leads, the first does', () => {
    const hosts = clusterHosts(3, 0)
    const led = (leader: string | undefined) =>
      sampleSnapshot({
        hosts,
        clusters: new Map([['home', sampleCluster(hosts, {}, { leader, first: 's1' })]]),
        rollouts: [reboot(hosts)],
      })
    const why = (leader: string | undefined, host: string) =>
      waits(led(leader), host).find(({ gate }) => gate === 'servers')?.reason
    expect(grants(led('s3'))).toEqual(['r1 s1 drain'])
    expect(grants(led('s1'))).toEqual(['r1 s2 drain'])
    expect(why('s3', 's3')).toBe('goes after server s1: it leads the datastore')
    expect(why('s3', 's2')).toBeUndefined()
    expect(grants(led(undefined))).toEqual(['r1 s2 drain'])
    expect(why(undefined, 's1')).toBe(
      'goes after server s2: the others join at it, and nobody says who leads the datastore',
    )
  })

  it('T39: who leads by the time that others are done goes last of those that are left', () => {
    const hosts = clusterHosts(3, 0)
    const done = ['drain', 'act', 'prove', 'soak', 'uncordon'] as const
    const led = (leader: string) =>
      sampleSnapshot({
        hosts,
        clusters: new Map([['home', sampleCluster(hosts, {}, { leader, first: 's1' })]]),
        rollouts: [reboot(hosts, { grants: { s1: done.map(step => sampleGrant(step, 'done', NOW)) } })],
      })
    expect(grants(led('s3'))).toEqual(['r1 s2 drain'])
    expect(grants(led('s2'))).toEqual(['r1 s3 drain'])
    expect(grants(led('s1'))).toEqual(['r1 s2 drain'])
  })

  it('N32: a server that is to go after the one that leads and that one never wait for each other', () => {
    const hosts = clusterHosts(3, 0)
    const whole = reboot(hosts)
    const rollout = {
      ...whole,
      hosts: whole.hosts.map(host => (host.host === 's3' ? { ...host, after: ['s1'] } : host)),
    }
    const clusters = new Map([['home', sampleCluster(hosts, {}, { leader: 's1', first: 's1' })]])
    const snapshot = sampleSnapshot({ hosts, clusters, rollouts: [rollout] })
    expect(waits(snapshot, 's1').map(({ on }) => on)).toContain('s2')
    const done = ['drain', 'act', 'prove', 'soak', 'uncordon'] as const
    const grantsOf = done.map(step => sampleGrant(step, 'done', NOW))
    const later = {
      ...rollout,
      hosts: rollout.hosts.map(host => (host.host === 's2' ? { ...host, grants: grantsOf } : host)),
    }
    expect(grants({ ...snapshot, rollouts: [later] })).toEqual(['r1 s1 drain'])
  })

  it('T39: a server waits while a voter is ill, and opens when it is well', () => {
    const hosts = clusterHosts(3, 0)
    const snapshot = sampleSnapshot({ hosts, rollouts: [reboot(hosts)] })
    const ill = inCluster(hosts, { s3: { healthy: false } })
    expect(waits({ ...snapshot, clusters: ill }, 's2').find(({ gate }) => gate === 'quorum')?.reason).toBe(
      '2 of 3 voters are healthy; s3 is not',
    )
    expect(grants({ ...snapshot, clusters: inCluster(hosts) })).toEqual(['r1 s2 drain'])
  })

  it('N32: ends when all that is left waits for a server that failed', () => {
    const hosts = clusterHosts(1, 2)
    const settings = { onFailure: 'continue' } as const
    const failed = [
      sampleGrant('drain', 'done', NOW),
      sampleGrant('act', 'failed', NOW),
      sampleGrant('uncordon', 'done', NOW),
    ]
    const rollout = reboot(hosts, { settings, grants: { s1: failed } })
    const snapshot = sampleSnapshot({ hosts, clusters: inCluster(hosts), rollouts: [rollout] })
    expect(gates(snapshot, 'w1')).toEqual(['servers'])
    expect(planRollouts(snapshot, NOW).moves).toMatchObject([
      {
        state: 'failed',
        reason: '1 failed: s1: it broke; never had their turn, for they go after these: w1, w2',
      },
    ])
  })

  it('moves Kubernetes in the order of its versions, and never by two minors or back', () => {
    const hosts = clusterHosts(3, 1).map(view => ({ ...view, versions: new Map([['r1', '1.35.4']]) }))
    const rollout = sampleRollout({
      hosts,
      change: { action: 'upgrade', overrides: new Set(['w1 servers']) },
    })
    const snapshot = sampleSnapshot({ hosts, rollouts: [rollout] })
    const skewOf = (clusters: RolloutSnapshot['clusters']) => {
      const fetched = [sampleGrant('prefetch', 'done', NOW)]
      const hostsDone = rollout.hosts.map(host => ({ ...host, grants: fetched }))
      return waits({ ...snapshot, clusters, rollouts: [{ ...rollout, hosts: hostsDone }] }, 'w1')
    }
    expect(skewOf(inCluster(hosts))).toMatchObject([
      { gate: 'skew', reason: expect.stringContaining('servers go first'), on: 's1' },
    ])
    const moved = { version: '1.35.4', kubelet: '1.35.4' }
    expect(skewOf(inCluster(hosts, { s1: moved, s2: moved, s3: moved }))).toEqual([])
    const silent = inCluster(hosts, { s1: { version: undefined, kubelet: undefined } })
    expect(skewOf(silent)).toMatchObject([{ gate: 'skew', reason: 'nobody can say what s1 runs' }])
  })

  describe('of what the owner of a node lets be ordered there', () => {
    const CHANGES = ['apply', 'upgrade', 'rollback', 'reboot', 'restart'] as const

    it.each(CHANGES)('hold %s before anything is drained, and nobody opens that by a word', action => {
      const hosts = clusterHosts(0, 2).map(view => ({ ...view, cluster: 'home' }))
      const all = [sampleHost('s1', { cluster: 'home', server: true }), ...hosts]
      const said = (allowed: readonly string[] | undefined) =>
        all.map(view => (view.host === 'w1' ? { ...view, allowed } : view))
      const snapshot = (allowed: readonly string[] | undefined, overrides: readonly string[] = []) =>
        sampleSnapshot({
          hosts: said(allowed),
          clusters: inCluster(all),
          rollouts: [
            sampleRollout({ hosts: hosts.slice(0, 1), change: { action, overrides: new Set(overrides) } }),
          ],
        })
      const others = CHANGES.filter(verb => verb !== action)
      for (const allowed of [others, []]) {
        expect(grants(snapshot(allowed, ['w1 allow']))).toEqual([])
        expect(waits(snapshot(allowed), 'w1')).toContainEqual({
          gate: 'allow',
          reason: `its agent does not take orders to ${action}`,
          opens: `\`allow\` of its agent has "${action}"`,
        })
      }
      expect(grants(snapshot([action]))).toHaveLength(1)
      // Who has never said anything refuses by itself.
      expect(grants(snapshot(undefined))).toHaveLength(1)
    })

    it('give back a node that was drained before its owner forbade what was to come, and leave it behind', () => {
      const hosts = clusterHosts(0, 1).map(view => ({ ...view, allowed: ['apply'] }))
      const drained = [sampleGrant('drain', 'done', NOW)]
      const snapshot = sampleSnapshot({
        hosts,
        clusters: inCluster(hosts, { w1: { cordonedBy: 'r1' } }),
        rollouts: [reboot(hosts, { grants: { w1: drained } })],
      })
      expect(gates(snapshot, 'w1')).toEqual(['allow'])
      expect(grants(snapshot, NOW + 300_000)).toEqual(['r1 w1 uncordon'])
      const untouched = { ...snapshot, rollouts: [reboot(hosts)] }
      expect(planRollouts(untouched, NOW).moves).toMatchObject([
        { state: 'succeeded', reason: 'left behind: w1' },
      ])
    })

    it('hold a drain that no server of the cluster would do, and a server that takes no snapshots', () => {
      const hosts = clusterHosts(3, 1)
      const saying = (by: Readonly<Record<string, readonly string[]>>, rollout = reboot(hosts)) =>
        sampleSnapshot({
          hosts: hosts.map(view => ({ ...view, allowed: by[view.host] ?? ['reboot', 'drain', 'upgrade'] })),
          clusters: inCluster(hosts),
          rollouts: [rollout],
        })
      const none = { s1: ['reboot'], s2: ['reboot'], s3: ['reboot'], w1: ['reboot', 'drain'] }
      expect(grants(saying(none))).toEqual([])
      expect(waits(saying(none), 's2').find(({ gate }) => gate === 'allow')).toMatchObject({
        reason: 'no server of cluster home takes orders to drain',
      })
      expect(grants(saying({ ...none, s1: ['reboot', 'drain'] }))).toEqual(['r1 s2 drain'])
      const upgrade = sampleRollout({ hosts: hosts.slice(1, 2), change: { action: 'upgrade' } })
      expect(gates(saying({}, upgrade), 's2')).toEqual(['allow'])
      expect(gates(saying({ s2: ['upgrade', 'drain', 'snapshot'] }, upgrade), 's2')).toEqual([])
    })

    it('hold a host whose plan only a reboot reaches that it takes no orders for, and none that needs no drain', () => {
      const hosts = clusterHosts(0, 1).map(view => ({ ...view, allowed: ['apply'] }))
      const servers = [sampleHost('s1', { cluster: 'home', server: true, allowed: ['reboot'] })]
      const planned = (plan: NonNullable<OperationView['plan']>, allowed = ['apply']) =>
        sampleSnapshot({
          hosts: [...servers, ...hosts.map(view => ({ ...view, allowed }))],
          clusters: inCluster([...servers, ...hosts]),
          operations: new Map([
            [
              'p',
              {
                id: 'p',
                state: 'done' as const,
                reason: '',
                endedMs: NOW,
                retryDelaysMs: [],
                untouched: true,
                plan,
              },
            ],
          ]),
          rollouts: [
            sampleRollout({
              hosts,
              grants: { w1: [sampleGrant('prefetch', 'done', NOW, { operation: 'p' })] },
            }),
          ],
        })
      const barred = { reboots: true, touchesKubernetes: false, barred: true }
      expect(waits(planned(barred), 'w1').map(({ reason }) => reason)).toEqual([
        'no server of cluster home takes orders to drain',
        'by its plan only a reboot reaches the system, and its agent does not take orders to reboot',
      ])
      expect(gates(planned({ reboots: false, touchesKubernetes: false }), 'w1')).toEqual([])
      expect(grants(planned({ reboots: false, touchesKubernetes: false }))).toEqual(['r1 w1 act'])
    })
  })

  it('T63: a pin holds until its end, and no longer', () => {
    const hosts = [sampleHost('a', { pin: { revision: 7, why: 'demo', untilMs: NOW } })]
    const snapshot = sampleSnapshot({ hosts, rollouts: [sampleRollout({ hosts })] })
    expect(gates(snapshot, 'a', NOW - 1)).toEqual(['pin'])
    expect(grants(snapshot, NOW)).toEqual(['r1 a act'])
  })

  it('drains after all when a plan that was made anew needs a reboot, whatever the one before said', () => {
    const hosts = clusterHosts(0, 1)
    const plan = (id: string, reboots: boolean): [string, OperationView] => [
      id,
      {
        id,
        state: 'done',
        reason: '',
        endedMs: NOW,
        retryDelaysMs: [],
        untouched: true,
        plan: { reboots, touchesKubernetes: false },
      },
    ]
    const old = NOW - 25 * 3_600_000
    const before = [
      sampleGrant('prefetch', 'done', old, { operation: 'one' }),
      sampleGrant('drain', 'skipped', old, { operation: '' }),
    ]
    const again = sampleGrant('prefetch', 'done', NOW, { operation: 'two', attempt: 2 })
    const snapshot = (given: readonly ReturnType<typeof sampleGrant>[]) =>
      sampleSnapshot({
        hosts,
        clusters: inCluster(hosts),
        operations: new Map([plan('one', false), plan('two', true)]),
        rollouts: [sampleRollout({ hosts, grants: { w1: given } })],
      })
    expect(grants(snapshot(before))).toEqual(['r1 w1 prefetch'])
    expect(grants(snapshot([...before, again]))).toEqual(['r1 w1 drain'])
  })

  it('N32: canaries that each go after another host do not wait for each other through these', () => {
    const hosts = ['a', 'b', 'c', 'd', 'e'].map(name => sampleHost(name))
    const after: Readonly<Record<string, readonly string[]>> = { a: ['c'], b: ['d'] }
    const plain = reboot(hosts, {
      canaries: ['a', 'b'],
      settings: { maxUnavailableAlone: { kind: 'number', number: 5 } },
    })
    const members = plain.hosts.map(host => ({ ...host, after: after[host.host] ?? [] }))
    const snapshot = sampleSnapshot({ hosts, rollouts: [{ ...plain, hosts: members }] })
    expect(grants(snapshot)).toEqual(['r1 c act', 'r1 d act'])
    expect(gates(snapshot, 'e')).toEqual(['canary'])
  })

  describe('by action', () => {
    const away = { connected: false, connectedSinceMs: undefined }
    const shut = [{ days: [1], fromMinute: 0, toMinute: 1, timeZone: 'UTC' }]
    const silence = { known: 4, silent: 3, percent: 30 }
    const of = (
      hosts: readonly HostView[],
      change: Partial<Parameters<typeof sampleRollout>[0]['change']> & object,
      more: Partial<RolloutSnapshot> = {},
    ) =>
      sampleSnapshot({
        clusters: inCluster(hosts),
        ...more,
        hosts,
        rollouts: [{ ...reboot(hosts.slice(0, 1)), ...change }],
      })

    it('let a machine go that is gone, whoever else is silent, but not past a lock or a datastore that would not agree', () => {
      const [gone, ...others] = clusterHosts(3, 1)
      if (!gone) throw new Error('no host')
      const dead = { action: 'leave', how: 'dead' } as const
      const hosts = [{ ...gone, ...away, machine: undefined }, ...others.map(host => ({ ...host, ...away }))]
      const ill = inCluster(hosts, { s1: { healthy: false, ready: undefined, joined: true } })
      const all = { silence, windows: shut, clusters: ill }
      expect(grants(of(hosts, dead, all))).toEqual(['r1 s1 act'])
      expect(gates(of(hosts, { action: 'leave' }, all), 's1')).toEqual(
        expect.arrayContaining(['unbound', 'silence', 'window', 'budget']),
      )
      const two = inCluster(hosts, { s1: { healthy: false }, s2: { healthy: false } })
      expect(gates(of(hosts, dead, { ...all, clusters: two }), 's1')).toEqual(['quorum'])
      const locked = [{ ...gone, ...away, lock: 'its disk is evidence' }, ...others]
      expect(gates(of(locked, dead, all), 's1')).toEqual(['lock'])
      expect(gates({ ...of(hosts, dead, all), halted: 'older' }, 's1')).toEqual(['halted'])
    })

    it('let a datastore be set back that agrees on nothing, by the machine that is there', () => {
      const [here, ...others] = clusterHosts(3, 0)
      if (!here) throw new Error('no host')
      const hosts = [here, ...others.map(host => ({ ...host, ...away }))]
      const down = inCluster(hosts, {
        s1: { healthy: false, ready: false },
        s2: { healthy: false, joined: undefined, ready: undefined },
        s3: { healthy: false, joined: undefined, ready: undefined },
      })
      const all = { silence, windows: shut, clusters: down }
      expect(grants(of(hosts, { action: 'restore' }, all))).toEqual(['r1 s1 act'])
      expect(grants(of(hosts, { action: 'restore' }, { ...all, clusters: new Map() }))).toEqual(['r1 s1 act'])
      expect(gates(of([{ ...here, ...away }, ...others], { action: 'restore' }, all), 's1')).toEqual(['away'])
      expect(gates(of(hosts, { action: 'rotate' }, all), 's1')).toEqual(
        expect.arrayContaining(['silence', 'window', 'health', 'quorum', 'budget']),
      )
    })

    it('let the pods of an ill node be moved off, one node at a time and in its window', () => {
      const [ill, ...others] = clusterHosts(1, 3).toReversed()
      if (!ill) throw new Error('no host')
      const hosts = [{ ...ill, ...away }, ...others]
      const clusters = inCluster(hosts, { w3: { ready: false } })
      expect(grants(of(hosts, { action: 'drain' }, { clusters }))).toEqual(['r1 w3 act'])
      expect(gates(of(hosts, { action: 'drain' }, { clusters, windows: shut }), 'w3')).toEqual(['window'])
      const beside = inCluster(hosts, { w3: { ready: false }, w2: { cordonedBy: 'x' } })
      expect(gates(of(hosts, { action: 'drain' }, { clusters: beside }), 'w3')).toEqual(['budget'])
    })

    it('make new certificates of a server wait for the datastore, and new tokens for nothing but the server itself', () => {
      const hosts = clusterHosts(3, 0)
      const clusters = inCluster(hosts, { s3: { healthy: false, ready: false } })
      const all = { clusters, windows: shut }
      expect(gates(of(hosts, { action: 'rotate' }, all), 's1')).toEqual(['window', 'budget', 'quorum'])
      expect(grants(of(hosts, { action: 'rotate', how: 'tokens' }, all))).toEqual(['r1 s1 act'])
    })
  })

  it('an act that its cluster would not begin is told, and fails when it has been asked for long enough', () => {
    const hosts = clusterHosts(1, 1)
    const operation = 'act-1'
    const unwilling: OperationView = {
      id: operation,
      state: 'unwilling',
      reason: 'a restore is under way',
      endedMs: undefined,
      retryDelaysMs: [],
      untouched: true,
      plan: undefined,
    }
    const given = { w1: [sampleGrant('act', undefined, NOW, { operation })] }
    const snapshot = sampleSnapshot({
      hosts,
      clusters: inCluster(hosts),
      operations: new Map([[operation, unwilling]]),
      rollouts: [sampleRollout({ hosts: hosts.slice(1), grants: given, change: { action: 'drain' } })],
    })
    expect(waits(snapshot, 'w1', NOW + 599_999)).toMatchObject([
      { gate: 'refused', reason: 'a restore is under way' },
    ])
    expect(planRollouts(snapshot, NOW + 599_999).closings).toEqual([])
    expect(planRollouts(snapshot, NOW + 600_000).closings).toMatchObject([
      { host: 'w1', end: { outcome: 'failed', reason: 'not begun: a restore is under way' } },
    ])
  })
})
