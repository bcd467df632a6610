import { describe, expect, it } from 'vitest'
import { evidenceAwaited } from './evidence-awaited.ts'
import { planRollouts } from './plan-rollouts.ts'
import type { RolloutSnapshot } from './rollout-snapshot.ts'
import { sampleGrant } from './testing/grants.ts'
import { sampleHost, sampleRollout, sampleSnapshot } from './testing/sample.ts'
import { clusterHosts, sampleCluster } from './testing/sample-cluster.ts'

const NOW = 1_800_000_000_000
const awaited = (snapshot: RolloutSnapshot) => evidenceAwaited(snapshot, planRollouts(snapshot, NOW))
const reboot = { action: 'reboot' } as const

describe('whose word rollouts wait for', () => {
  const hosts = clusterHosts(3, 2)
  const grants = { s2: [sampleGrant('act', 'done', NOW), sampleGrant('prove', undefined, NOW)] }

  it('is that of the host that is proved, and not of those that wait for their turn', () => {
    const clusters = new Map([['home', sampleCluster(hosts, {}, { leader: 's1' })]])
    const rollouts = [sampleRollout({ hosts, grants, change: reboot })]
    const snapshot = sampleSnapshot({ hosts, clusters, rollouts })
    expect(awaited(snapshot)).toEqual(new Map([['home', new Set(['machine-s2'])]]))
  })

  it('is that of a host whose turn it is, while its cluster is not seen to be well', () => {
    const clusters = new Map([['home', sampleCluster(hosts, { s3: { healthy: false } }, { leader: 's1' })]])
    const snapshot = sampleSnapshot({ hosts, clusters, rollouts: [sampleRollout({ hosts, change: reboot })] })
    expect(awaited(snapshot).get('home')).toContain('machine-s2')
  })

  it('is nobody’s where all goes by itself', () => {
    const alone = [sampleHost('a'), sampleHost('b')]
    const rollouts = [sampleRollout({ hosts: alone, change: reboot })]
    expect(awaited(sampleSnapshot({ hosts: alone, rollouts }))).toEqual(new Map())
    const clusters = new Map([['home', sampleCluster(hosts)]])
    expect(awaited(sampleSnapshot({ hosts, clusters }))).toEqual(new Map())
  })
})
