import { describe, expect, it } from 'vitest'
import { jobQuestions } from '../questions-for.ts'
import type { Wait } from './decision.ts'
import { serverToAsk } from './job-gates.ts'
import { planRollouts } from './plan-rollouts.ts'
import type { RolloutRecord } from './rollout-record.ts'
import type { GatesView, HostView, RolloutSnapshot } from './rollout-snapshot.ts'
import { sampleGrant } from './testing/grants.ts'
import { sampleHost, sampleRollout, sampleSnapshot } from './testing/sample.ts'
import { clusterHosts, sampleCluster } from './testing/sample-cluster.ts'

const NOW = 1_800_000_000_000

const waits = (snapshot: RolloutSnapshot, host: string): readonly Wait[] =>
  planRollouts(snapshot, NOW).waits.get('r1')?.get(host) ?? []
const reboot = (hosts: readonly HostView[], input: Partial<Parameters<typeof sampleRollout>[0]> = {}) =>
  sampleRollout({ hosts, ...input, change: { action: 'reboot', ...input.change } })
const inCluster = (hosts: readonly HostView[], ...rest: [Parameters<typeof sampleCluster>[1]?]) =>
  new Map([['home', sampleCluster(hosts, ...rest)]])

describe('the Jobs of a cluster', () => {
  const hosts = [...clusterHosts(1, 2), sampleHost('a')]
  const view = (answer?: GatesView) => {
    const jobs = { revision: 3, manifestDigest: 'd', deadlineMs: 120_000, answer }
    return new Map([['home', jobs]])
  }
  const at = (askedMs: number, problem?: string) => view({ askedMs, problem })
  const held = (
    jobs: RolloutSnapshot['jobs'],
    change: Parameters<typeof reboot>[1] = {},
    seen: readonly HostView[] = hosts,
  ) =>
    waits(
      sampleSnapshot({ hosts: seen, clusters: inCluster(seen), jobs, rollouts: [reboot(seen, change)] }),
      's1',
    )
      .filter(({ gate }) => gate === 'jobs')
      .map(({ reason }) => reason)
  const silent = ['the Jobs of cluster home have not completed since the last step']

  it('waits for those, asked after the last step in it, and for nothing older', () => {
    expect(held(new Map())).toEqual([])
    expect(held(view())).toEqual(silent)
    expect(held(at(NOW - 5_000))).toEqual([])
    expect(held(at(NOW + 1))).toEqual(silent)
    expect(held(at(NOW - 300_000))).toEqual([])
    expect(held(at(NOW - 300_001))).toEqual(silent)
    expect(held(at(NOW - 1_000, 'gate smoke is unhealthy: no'))).toEqual(['gate smoke is unhealthy: no'])
    const drained = { grants: { w1: [sampleGrant('drain', 'done', NOW - 5_000)] } }
    expect(held(at(NOW - 5_000), drained)).toEqual(silent)
    expect(held(at(NOW - 4_999), drained)).toEqual([])
    const opened = { change: { overrides: new Set(['s1 jobs']) } }
    expect(held(view(), opened)).toEqual([])
  })

  it('says which server is missing that could run them', () => {
    const without = (change: Partial<HostView>) =>
      hosts.map(one => (one.server ? { ...one, ...change } : one))
    const nobody = ['no server of cluster home is there that can be asked to run its Jobs']
    expect(held(view(), {}, without({ connected: false }))).toEqual(nobody)
    expect(held(view(), {}, without({ held: 'x' }))).toEqual(nobody)
    expect(held(view(), {}, without({ allowed: ['drain'] }))).toEqual(nobody)
    expect(held(view(), {}, without({ allowed: ['join'] }))).toEqual(silent)
  })

  it('does not hold a way back, nor what takes nobody away, nor a host outside', () => {
    const does = (action: RolloutRecord['action'], how?: RolloutRecord['how']) =>
      held(view(), { change: { action, revision: 0, how } })
    expect(does('rollback')).toEqual([])
    expect(does('rotate', 'tokens')).toEqual([])
    expect(does('drain')).toEqual(silent)
    expect(does('leave')).toEqual(silent)
    expect(does('leave', 'dead')).toEqual([])
    const snapshot = sampleSnapshot({
      hosts,
      clusters: inCluster(hosts),
      jobs: view(),
      rollouts: [reboot(hosts)],
    })
    expect(waits(snapshot, 'a').map(({ gate }) => gate)).not.toContain('jobs')
  })

  it('are asked of a server that is well, once hosts wait for nothing else', () => {
    const more = clusterHosts(3, 1)
    const rollouts = [reboot(more)]
    const asked = (clusters: RolloutSnapshot['clusters'], seen: readonly HostView[] = more) => {
      const snapshot = sampleSnapshot({ hosts: seen, clusters, jobs: view(), rollouts })
      return [...jobQuestions(snapshot, planRollouts(snapshot, NOW))]
    }
    const [[cluster, question] = []] = asked(inCluster(more))
    expect(cluster).toBe('home')
    expect(question).toMatchObject({ machine: 'machine-s1', kind: 'jobs', deadlineMs: 165_000 })
    expect(JSON.parse(question?.parameters ?? '')).toEqual({
      cluster: 'home',
      revision: '3',
      manifestDigest: 'd',
    })
    const chosen = (change: Parameters<typeof sampleCluster>[1]) => {
      const servers = more.filter(({ server }) => server).toReversed()
      return serverToAsk(servers, sampleCluster(more, change))?.host
    }
    expect(chosen({ s1: { ready: false } })).toBe('s2')
    expect(chosen({ s1: { ready: false }, s2: { ready: false }, s3: { ready: undefined } })).toBe('s1')
    const locked = more.map(one => ({ ...one, lock: 'x' }))
    expect(asked(inCluster(locked), locked)).toEqual([])
  })
})
