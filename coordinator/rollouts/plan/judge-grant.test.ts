import { describe, expect, it } from 'vitest'
import { judgeGrant, LOOKS_FIRST_MS, PROVE_LIMIT_MS, UNWELL_LIMIT_MS } from './judge-grant.ts'
import type { NodeEvidence } from './new-evidence.ts'
import type { Grant } from './rollout-record.ts'
import type { MemberView, OperationView } from './rollout-snapshot.ts'
import { sampleGrant } from './testing/grants.ts'
import { sampleHost, sampleRollout, sampleSnapshot } from './testing/sample.ts'
import { clusterHosts, sampleCluster } from './testing/sample-cluster.ts'

const NOW = 1_800_000_000_000
const ACTED = NOW - 5_000

/** Of a worker that was rebooted and is to be proved. */
function proof(member: Partial<MemberView>, disturbed?: OperationView['disturbed'], nowMs = NOW) {
  const hosts = clusterHosts(1, 1)
  const proving = sampleGrant('prove', undefined, ACTED)
  const grants = { w1: [sampleGrant('act', 'done', ACTED), proving] }
  const rollout = sampleRollout({ hosts, grants, change: { action: 'reboot', revision: 0 } })
  const operation: OperationView = {
    id: 'act-1',
    state: 'done',
    reason: '',
    endedMs: ACTED,
    retryDelaysMs: [],
    untouched: false,
    plan: undefined,
    disturbed,
  }
  const snapshot = sampleSnapshot({
    hosts,
    rollouts: [rollout],
    operations: new Map([['act-1', operation]]),
    clusters: new Map([['home', sampleCluster(hosts, { w1: { asOfMs: NOW - 1, ...member } })]]),
  })
  const host = rollout.hosts.find(one => one.host === 'w1')
  if (!host) throw new Error('no such host')
  return judgeGrant(snapshot, rollout, host, proving, nowMs)
}

const evidence = (change: Partial<NodeEvidence> = {}): NodeEvidence => ({
  renewedMs: 50,
  renewedAfterMs: undefined,
  bootId: 'b',
  ownBootId: 'b',
  startedMs: undefined,
  ...change,
})

describe('a coordinator that did not run', () => {
  it('looks for a while before it says that a node was not proved', () => {
    const hosts = clusterHosts(1, 1)
    const proving = sampleGrant('prove', undefined, ACTED)
    const rollout = sampleRollout({ hosts, grants: { w1: [sampleGrant('act', 'done', ACTED), proving] } })
    const host = rollout.hosts.find(one => one.host === 'w1')
    const judged = (nowMs: number, watchedSinceMs: number) =>
      host &&
      judgeGrant(
        sampleSnapshot({ hosts, rollouts: [rollout], watchedSinceMs }),
        rollout,
        host,
        proving,
        nowMs,
      )
    const laterMs = ACTED + 20 * 60_000
    expect(judged(laterMs, laterMs - LOOKS_FIRST_MS + 1)).toBeUndefined()
    expect(judged(laterMs, laterMs - LOOKS_FIRST_MS)).toMatchObject({ outcome: 'failed' })
    expect(judged(ACTED + PROVE_LIMIT_MS - 1, 0)).toBeUndefined()
  })
})

describe('a host that soaks', () => {
  const MINUTE = 60_000
  const soak = (attempt: number, grantedMs: number, againMs?: number): Grant => ({
    ...sampleGrant('soak', undefined, grantedMs),
    id: attempt,
    attempt,
    ...(againMs !== undefined && { end: { outcome: 'again', reason: 'it is not connected', atMs: againMs } }),
  })
  const judged = (grants: readonly Grant[], nowMs: number) => {
    const hosts = [sampleHost('n1', { connected: false, awaySinceMs: nowMs, connectedSinceMs: undefined })]
    const rollout = sampleRollout({
      hosts,
      grants: { n1: [sampleGrant('act', 'done', NOW), ...grants] },
      settings: { soakMs: 60 * MINUTE },
    })
    const [host] = rollout.hosts
    const newest = grants.at(-1)
    return (
      host &&
      newest &&
      judgeGrant(sampleSnapshot({ hosts, rollouts: [rollout] }), rollout, host, newest, nowMs)
    )
  }

  it('soaks anew after a moment in which it was away, however long ago the one before was', () => {
    const first = soak(1, NOW, NOW + MINUTE)
    // It was back at once, and is away for a second time half an hour later; or a quarter of an hour went by before it soaked anew.
    expect(judged([first, soak(2, NOW + 2 * MINUTE)], NOW + 30 * MINUTE)).toMatchObject({ outcome: 'again' })
    expect(judged([first, soak(2, NOW + 20 * MINUTE)], NOW + 30 * MINUTE)).toMatchObject({ outcome: 'again' })
  })

  it('has failed when it was not back within a quarter of an hour', () => {
    const first = soak(1, NOW, NOW + MINUTE)
    const second = soak(2, NOW + MINUTE + UNWELL_LIMIT_MS)
    expect(judged([first, second], NOW + MINUTE + UNWELL_LIMIT_MS + 1)).toMatchObject({
      outcome: 'failed',
      reason: expect.stringContaining('did not stay well'),
    })
  })
})

describe('T40: the proof of a node that was rebooted', () => {
  it('is no Ready that the API server still says of before, however new the answer is', () => {
    expect(proof({ evidence: evidence() })).toBeUndefined()
    expect(proof({ evidence: evidence() }, { startedMs: 60, endedMs: 90 })).toBeUndefined()
    expect(proof({ evidence: undefined })).toBeUndefined()
  })

  it('is there at once with the first renewal of the kubelet that was started since', () => {
    const started = evidence({ startedMs: 70, renewedMs: 71 })
    expect(proof({ evidence: started }, { startedMs: 60, endedMs: 90 })).toMatchObject({ outcome: 'done' })
    const old = proof({ evidence: started, asOfMs: ACTED }, { startedMs: 60, endedMs: 90 })
    expect(old).toBeUndefined()
  })

  it('is there with two answers where nothing else is known', () => {
    expect(proof({ evidence: evidence({ renewedAfterMs: ACTED + 1 }) })).toMatchObject({ outcome: 'done' })
    expect(proof({ evidence: evidence({ renewedAfterMs: ACTED }) })).toBeUndefined()
  })

  it('is the word of its own API server where it has no Node', () => {
    expect(proof({ nodeless: true })).toMatchObject({ outcome: 'done' })
  })

  it('that does not come says what it missed', () => {
    const late = NOW + PROVE_LIMIT_MS
    expect(proof({ evidence: evidence({ bootId: 'a' }) }, undefined, late)).toEqual({
      outcome: 'failed',
      reason: 'not proved within 15 min: its kubelet has said nothing since its machine booted',
    })
    expect(proof({ evidence: evidence(), ready: false }, undefined, late)?.reason).toMatch(/is not Ready/)
  })
})

describe('an uncordon', () => {
  it('that found a cordon of somebody else has nothing left to take back; one that failed otherwise has', () => {
    const hosts = clusterHosts(1, 1)
    const grant = sampleGrant('uncordon', undefined, ACTED)
    const rollout = sampleRollout({
      hosts,
      grants: { w1: [grant] },
      change: { action: 'reboot', revision: 0 },
    })
    const host = rollout.hosts.find(one => one.host === 'w1')
    const end = (othersCordon: boolean) => {
      const operation: OperationView = {
        id: grant.operation,
        state: 'failed',
        reason: 'it stays',
        endedMs: ACTED,
        retryDelaysMs: [],
        untouched: true,
        plan: undefined,
        othersCordon,
      }
      const operations = new Map([[grant.operation, operation]])
      return host && judgeGrant(sampleSnapshot({ hosts, operations }), rollout, host, grant, NOW)
    }
    expect(end(true)).toEqual({ outcome: 'done', reason: 'it stays' })
    expect(end(false)).toEqual({ outcome: 'failed', reason: 'it stays' })
  })
})
