import { describe, expect, it } from 'vitest'
import { planRollouts } from './plan-rollouts.ts'
import type { RolloutRecord } from './rollout-record.ts'
import type { MemberView } from './rollout-snapshot.ts'
import { sampleGrant } from './testing/grants.ts'
import { sampleRollout, sampleSnapshot } from './testing/sample.ts'
import { clusterHosts, sampleCluster } from './testing/sample-cluster.ts'

const NOW = 1_800_000_000_000
const hosts = clusterHosts(3, 2)
const alone = hosts.filter(({ host }) => host === 'w1').map(host => ({ ...host, cluster: undefined }))

/** A rollout that began when w1 had not joined. */
function outside(change: Partial<RolloutRecord> = {}, grants = {}): RolloutRecord {
  return sampleRollout({ hosts: alone, grants, change })
}

function decide(rollouts: readonly RolloutRecord[], seen: Partial<MemberView> = {}) {
  // What certainly runs nothing of its cluster is as outside of it.
  const cluster = seen.joined === false ? undefined : 'home'
  const all = hosts.map(host => (host.host === 'w1' ? { ...host, cluster } : host))
  const decision = planRollouts(
    sampleSnapshot({
      hosts: all,
      rollouts,
      clusters: new Map([['home', sampleCluster(hosts, { w1: seen })]]),
    }),
    NOW,
  )
  return {
    steps: decision.grants.map(({ rollout, host, step }) => `${rollout} ${host} ${step}`),
    placed: decision.placements.map(({ rollout, host, cluster: to }) => `${rollout} ${host} ${to}`),
    gates: rollouts.map(({ id }) => (decision.waits.get(id)?.get('w1') ?? []).map(({ gate }) => gate)),
  }
}

describe('a host that joined its cluster after its rollout had begun', () => {
  it('is drained before it is moved, as one that had joined before', () => {
    expect(decide([outside({ action: 'reboot' })])).toMatchObject({
      placed: ['r1 w1 home'],
      steps: ['r1 w1 drain'],
    })
  })

  it('waits for quorum, health and all that its cluster asks for', () => {
    expect(decide([outside({ action: 'reboot' })], { ready: false })).toMatchObject({
      steps: [],
      gates: [expect.arrayContaining(['health'])],
    })
  })

  it('is not touched while nobody can say whether it has joined', () => {
    expect(decide([outside({ action: 'reboot' })], { joined: undefined })).toEqual({
      placed: [],
      steps: [],
      gates: [['unknown']],
    })
  })

  it('goes as one outside of clusters while it certainly runs nothing of one', () => {
    expect(decide([outside({ action: 'reboot' })], { joined: false })).toMatchObject({
      placed: [],
      steps: ['r1 w1 act'],
    })
  })

  it('goes to its end as it was begun once it is being moved', () => {
    const grants = { w1: [sampleGrant('act', 'done', NOW - 1_000)] }
    expect(decide([outside({ action: 'reboot' }, grants)])).toMatchObject({
      placed: [],
      steps: ['r1 w1 soak'],
    })
  })

  it('does not soak while its node is not Ready', () => {
    const grants = {
      w1: [sampleGrant('act', 'done', NOW - 90_000), sampleGrant('soak', undefined, NOW - 80_000)],
    }
    const snapshot = (ready: boolean) =>
      sampleSnapshot({
        hosts,
        rollouts: [outside({ action: 'reboot' }, grants)],
        clusters: new Map([['home', sampleCluster(hosts, { w1: { ready } })]]),
      })
    const ends = (ready: boolean) => planRollouts(snapshot(ready), NOW).closings.map(({ end }) => end.outcome)
    expect(ends(true)).toEqual(['done'])
    expect(ends(false)).toEqual(['again'])
  })

  it('waits while another rollout has its cluster, unless that waits for its own, near or far', () => {
    const own = outside({ action: 'reboot' })
    const others = hosts.filter(({ host }) => host === 'w2')
    const other = (change: Partial<RolloutRecord>) =>
      sampleRollout({ id: 'r2', hosts: others, change: { action: 'reboot', ...change } })
    expect(decide([own, other({})])).toMatchObject({ placed: [], gates: [['busy'], []] })
    expect(decide([own, other({ after: ['r1'] })])).toMatchObject({ placed: ['r1 w1 home'] })
    const between = sampleRollout({ id: 'r3', hosts: [], change: { after: ['r1'] } })
    expect(decide([own, other({ after: ['r3'] }), between])).toMatchObject({ placed: ['r1 w1 home'] })
  })

  it('comes into its cluster by one rollout and not by two', () => {
    const second = { ...outside({ action: 'reboot' }), id: 'r2' }
    expect(decide([outside({ action: 'reboot' }), second]).placed).toEqual(['r1 w1 home'])
  })
})
