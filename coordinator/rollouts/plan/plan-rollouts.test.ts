import { describe, expect, it } from 'vitest'
import { planRollouts } from './plan-rollouts.ts'
import type { StepKind } from './rollout-record.ts'
import type { HostView } from './rollout-snapshot.ts'
import { sampleGrant } from './testing/grants.ts'
import { sampleHost, sampleRollout, sampleSnapshot } from './testing/sample.ts'
import { clusterHosts, sampleCluster } from './testing/sample-cluster.ts'

const NOW = 1_800_000_000_000

/** What is granted now, "host step". */
function granted(snapshot: Parameters<typeof planRollouts>[0], nowMs = NOW): readonly string[] {
  return planRollouts(snapshot, nowMs).grants.map(({ host, step }) => `${host} ${step}`)
}

function gatesOf(snapshot: Parameters<typeof planRollouts>[0], host: string, nowMs = NOW) {
  const [waits] = planRollouts(snapshot, nowMs).waits.values()
  return (waits?.get(host) ?? []).map(({ gate }) => gate)
}

const hosts = (count: number) => Array.from({ length: count }, (_, index) => sampleHost(`n${index + 10}`))

describe('the planner of rollouts', () => {
  it('N27: moves so many hosts at once as the budget says, and nobody of the next before these are done', () => {
    const snapshot = sampleSnapshot({
      hosts: hosts(10),
      rollouts: [
        sampleRollout({
          hosts: hosts(10),
          settings: { maxUnavailableAlone: { kind: 'percent', percent: 20 } },
        }),
      ],
    })
    expect(granted(snapshot)).toEqual(['n10 act', 'n11 act'])
    expect(gatesOf(snapshot, 'n12')).toEqual(['budget'])
  })

  it('T45: counts a host that is off by itself, whichever rollout has it', () => {
    const all = hosts(10).map(host => (host.host === 'n19' ? { ...host, connected: false } : host))
    const settings = { maxUnavailableAlone: { kind: 'percent', percent: 20 } } as const
    const snapshot = sampleSnapshot({ hosts: all, rollouts: [sampleRollout({ hosts: hosts(9), settings })] })
    expect(granted(snapshot)).toEqual(['n10 act'])
  })

  it('N29: waits for canaries that are silent, and does not take them for soaked', () => {
    const all = hosts(4).map(host => (host.host === 'n10' ? { ...host, connected: false } : host))
    const soaking = { id: 1, step: 'act', attempt: 1, grantedMs: NOW - 90_000, operation: 'o1' } as const
    const grants = [
      { ...soaking, end: { outcome: 'done', reason: '', atMs: NOW - 80_000 } as const },
      { id: 2, step: 'soak', attempt: 1, grantedMs: NOW - 80_000, operation: '', end: undefined } as const,
    ]
    const rollout = sampleRollout({ hosts: hosts(4), canaries: ['n10'], grants: { n10: grants } })
    const snapshot = sampleSnapshot({ hosts: all, rollouts: [rollout] })
    const decision = planRollouts(snapshot, NOW)
    expect(decision.closings).toEqual([
      { rollout: 'r1', host: 'n10', grant: 2, end: { outcome: 'again', reason: 'it is not connected' } },
    ])
    expect(gatesOf(snapshot, 'n11')).toContain('canary')
  })

  it('stops at the first failure, ends when nothing is under way, and says what failed', () => {
    const failed = {
      id: 1,
      step: 'act',
      attempt: 1,
      grantedMs: NOW - 9_000,
      operation: 'o1',
      end: { outcome: 'failed', reason: 'rolled back: no', atMs: NOW - 1_000 },
    } as const
    const rollout = sampleRollout({ hosts: hosts(3), grants: { n10: [failed] } })
    const decision = planRollouts(sampleSnapshot({ hosts: hosts(3), rollouts: [rollout] }), NOW)
    expect(decision.grants).toEqual([])
    expect(decision.moves).toEqual([
      {
        rollout: 'r1',
        state: 'failed',
        endsAs: 'failed',
        reason: '1 failed: n10: rolled back: no',
        revert: false,
      },
    ])
  })

  it('T61: begins nothing while much of the fleet is silent, and lets what was begun go to its end', () => {
    const done = { outcome: 'done', reason: '', atMs: NOW - 1_000 } as const
    const act = {
      id: 1,
      step: 'act',
      attempt: 1,
      grantedMs: NOW - 9_000,
      operation: 'o1',
      end: done,
    } as const
    const rollout = sampleRollout({ hosts: hosts(10), grants: { n10: [act] } })
    const snapshot = sampleSnapshot({
      hosts: hosts(10),
      rollouts: [rollout],
      silence: { known: 10, silent: 4, percent: 30 },
    })
    expect(granted(snapshot)).toEqual(['n10 soak'])
    expect(gatesOf(snapshot, 'n11')).toContain('silence')
  })

  it('T46: looks at windows when it is about to act, by the clocks of their zone', () => {
    // 30 March 2025: clocks in Berlin go from 02:00 to 03:00.
    const night = { days: [7], fromMinute: 150, toMinute: 240, timeZone: 'Europe/Berlin' }
    const snapshot = sampleSnapshot({
      hosts: hosts(1),
      rollouts: [sampleRollout({ hosts: hosts(1) })],
      windows: [night],
    })
    const at = (text: string) => Date.parse(text)
    expect(gatesOf(snapshot, 'n10', at('2025-03-30T00:59:00Z'))).toEqual(['window'])
    expect(granted(snapshot, at('2025-03-30T01:00:00Z'))).toEqual(['n10 act'])
    expect(granted(snapshot, at('2025-03-30T01:59:00Z'))).toEqual(['n10 act'])
    expect(gatesOf(snapshot, 'n10', at('2025-03-30T02:00:00Z'))).toEqual(['window'])
  })

  it('N32: ends with its stragglers named when nobody else is left, and not before they were waited for', () => {
    const all = hosts(2).map(host => (host.host === 'n11' ? { ...host, connected: false } : host))
    const done = { outcome: 'done', reason: '', atMs: NOW - 1_000 } as const
    const steps = (['act', 'soak'] as const).map((step, index) => ({
      id: index,
      step,
      attempt: 1,
      grantedMs: NOW - 2_000,
      operation: '',
      end: done,
    }))
    const rollout = sampleRollout({ hosts: hosts(2), grants: { n10: steps }, settings: { awayMs: 60_000 } })
    const snapshot = sampleSnapshot({ hosts: all, rollouts: [rollout] })
    expect(planRollouts(snapshot, NOW).moves).toEqual([])
    expect(planRollouts(snapshot, NOW + 60_000).moves).toMatchObject([
      { state: 'succeeded', reason: 'left behind: n11' },
    ])
  })

  it('plans anew what was planned for another system than runs there, before it decides about a drain', () => {
    const nodes = clusterHosts(1, 1)
    const [server, worker] = nodes
    const step = (kind: StepKind, outcome: 'done' | 'skipped') => sampleGrant(kind, outcome, NOW - 3_600_000)
    const plan = { reboots: false, touchesKubernetes: false, from: '/nix/store/planned' }
    const next = (system: string | undefined, sinceMs = 3_600_000) => {
      const grants = [
        { ...step('prefetch', 'done'), end: { outcome: 'done', reason: '', atMs: NOW - sinceMs } } as const,
      ]
      const hosts = [server, worker && { ...worker, system }].flatMap(host => host ?? [])
      const rollout = sampleRollout({
        hosts: hosts.slice(1),
        grants: { w1: [...grants, step('drain', 'skipped')] },
      })
      const done = { state: 'done', reason: '', endedMs: NOW, retryDelaysMs: [], untouched: false } as const
      const operations = new Map([['prefetch-1', { ...done, id: 'prefetch-1', plan }]])
      const clusters = new Map([['home', sampleCluster(nodes)]])
      return granted(sampleSnapshot({ hosts, rollouts: [rollout], operations, clusters }))
    }
    expect(next('/nix/store/planned')).toEqual(['w1 act'])
    expect(next('/nix/store/by-hand')).toEqual(['w1 prefetch'])
    // What nobody knows is no other system, and a node tells which one runs a moment after its plan.
    expect(next(undefined)).toEqual(['w1 act'])
    expect(next('/nix/store/by-hand', 60_000)).toEqual(['w1 act'])
  })

  it('drains a node that has joined its cluster since there was nothing to drain', () => {
    const nodes = clusterHosts(1, 1)
    const next = (...grants: readonly ReturnType<typeof sampleGrant>[]) => {
      const rollout = sampleRollout({
        hosts: nodes.slice(1),
        grants: { w1: grants },
        change: { action: 'rollback', startedMs: NOW - 3_600_000 },
      })
      const clusters = new Map([['home', sampleCluster(nodes)]])
      return granted(sampleSnapshot({ hosts: nodes, rollouts: [rollout], clusters }))
    }
    const drain = (outcome: 'done' | 'skipped') => sampleGrant('drain', outcome, NOW - 1_800_000)
    expect(next(drain('skipped'))).toEqual(['w1 drain'])
    // Also when its act did not hold.
    expect(next(drain('skipped'), sampleGrant('act', 'again', NOW - 1_200_000))).toEqual(['w1 drain'])
    expect(next(drain('done'))).toEqual(['w1 act'])
  })

  it('leaves nobody behind who lost its session a moment ago, however long all have waited for a window', () => {
    const never = { days: [], fromMinute: 0, toMinute: 1, timeZone: 'UTC' }
    const moves = (awaySinceMs: number, change = {}) => {
      const all = hosts(2).map(host => ({ ...host, connected: false, awaySinceMs }))
      const rollout = sampleRollout({ hosts: all, change: { startedMs: NOW - 86_400_000, ...change } })
      return planRollouts(sampleSnapshot({ hosts: all, rollouts: [rollout], windows: [never] }), NOW).moves
    }
    expect(moves(NOW - 599_999)).toEqual([])
    expect(moves(NOW - 600_000)).toMatchObject([{ state: 'succeeded', reason: 'left behind: n10, n11' }])
    // Nor is anybody given up who was away before it began.
    expect(moves(NOW - 600_000, { startedMs: NOW - 1_000 })).toEqual([])
  })

  it('gives up for a host that failed only who could not go without it, and for no moment', () => {
    const hour = 3_600_000
    const never = { days: [], fromMinute: 0, toMinute: 1, timeZone: 'UTC' }
    const off = (host: HostView, sinceMs: number): HostView => ({
      ...host,
      connected: false,
      awaySinceMs: sinceMs,
      connectedSinceMs: undefined,
    })
    const moves = (change: (all: readonly HostView[]) => readonly HostView[], watchedSinceMs = 0) => {
      const own = hosts(4)
      const act = (outcome: 'done' | 'failed') => sampleGrant('act', outcome, NOW - 10 * hour)
      const grants = {
        n10: [act('failed')],
        n11: [act('done'), sampleGrant('soak', 'done', NOW - 10 * hour)],
      }
      const rollout = sampleRollout({
        hosts: own,
        grants,
        settings: { onFailure: 'continue', maxFailures: undefined },
      })
      const all = change([...own, sampleHost('other')])
      const snapshot = sampleSnapshot({ hosts: all, rollouts: [rollout], windows: [never], watchedSinceMs })
      return planRollouts(snapshot, NOW).moves
    }
    const only = (name: string, sinceMs: number) => (all: readonly HostView[]) =>
      all.map(host => (host.host === name ? off(host, sinceMs) : host))
    // Everybody waits for the window; then for a moment somebody else uses the budget up.
    expect(moves(all => all)).toEqual([])
    expect(moves(only('n11', NOW - 1_000))).toEqual([])
    expect(moves(only('other', NOW - 1_000))).toEqual([])
    expect(moves(only('other', NOW - hour))).toEqual([])
    // A coordinator that has just started sees nobody.
    expect(moves(all => all.map(host => off(host, NOW)), NOW)).toEqual([])
    expect(moves(only('n10', NOW - hour), NOW - 1_000)).toEqual([])
    expect(moves(only('n10', NOW - hour))).toMatchObject([
      {
        state: 'failed',
        reason: expect.stringContaining('never had their turn, for they go after these: n12, n13'),
      },
    ])
  })

  it('ends with the rollout that it waited for, but for hosts for which somebody opened that gate', () => {
    const moves = (opened: readonly string[], change: Partial<HostView> = {}) => {
      const all = hosts(2).map(host => (host.host === 'n10' ? { ...host, ...change } : host))
      const overrides = new Set(opened.map(host => `${host} rollout`))
      const rollout = sampleRollout({
        hosts: all,
        change: { after: ['r0'], startedMs: NOW - 1_000, overrides },
      })
      const others = new Map([['r0', 'failed' as const]])
      return planRollouts(sampleSnapshot({ hosts: all, rollouts: [rollout], others }), NOW).moves
    }
    const why = 'rollout r0, which it waited for, is failed'
    expect(moves([])).toMatchObject([{ state: 'failed', reason: why }])
    // It is away for a moment, and goes when it is back.
    const off = { connected: false, connectedSinceMs: undefined, awaySinceMs: NOW - 1_000 }
    expect(moves(['n10'], off)).toEqual([])
    // Only somebody else can let it go on: nothing is waited for any more.
    expect(moves(['n10'], { lock: 'mine' })).toMatchObject([
      {
        state: 'failed',
        reason: `${why}; left behind: n10; never had their turn, for they go after these: n11`,
      },
    ])
    expect(moves(['n10', 'n11'], { lock: 'mine' })).toEqual([])
  })

  it('T62: grants nothing while the store is older than what nodes report', () => {
    const snapshot = sampleSnapshot({
      hosts: hosts(1),
      rollouts: [sampleRollout({ hosts: hosts(1) })],
      halted: 'the store is older',
    })
    expect(granted(snapshot)).toEqual([])
    expect(gatesOf(snapshot, 'n10')).toEqual(['halted'])
  })
})
