import { describe, expect, it } from 'vitest'
import { parseVersion } from '../../../shared/kubernetes/version.ts'
import { followsUpgrade, needsUpgrade } from './behind-upgrade.ts'
import { clusterHosts, sampleCluster } from './testing/sample-cluster.ts'

const TO = parseVersion('1.35.4')!
const THERE = { version: '1.35.4+k3s1' }
const hosts = clusterHosts(3, 2)
const servers = { s1: THERE, s2: THERE, s3: THERE }
const cluster = (changes: Parameters<typeof sampleCluster>[1]) => sampleCluster(hosts, changes)

describe('who catches up with an upgrade', () => {
  it('left behind: whoever has not got it, and nobody of whom that cannot be said', () => {
    expect(needsUpgrade('w1', cluster({}), TO)).toBe(true)
    expect(needsUpgrade('w1', cluster({ w1: THERE }), TO)).toBe(false)
    expect(needsUpgrade('w1', cluster({ w1: { version: undefined } }), TO)).toBe(false)
    expect(needsUpgrade('w1', cluster({ w1: { joined: undefined } }), TO)).toBe(false)
    expect(needsUpgrade('w1', undefined, TO)).toBe(false)
    // Its first Kubernetes comes by it.
    expect(needsUpgrade('w1', cluster({ w1: { joined: false, version: undefined } }), TO)).toBe(true)
    expect(needsUpgrade('w1', cluster({}), undefined)).toBe(true)
  })

  it('named by none: whoever is older than a cluster whose servers all have it', () => {
    expect(followsUpgrade('w1', cluster(servers), TO)).toBe(true)
    expect(followsUpgrade('s1', cluster({ ...servers, s1: {} }), TO)).toBe(true)
    for (const changes of [
      {},
      { ...servers, s3: {} },
      { ...servers, s3: { version: undefined } },
      { ...servers, w1: THERE },
      { ...servers, w1: { version: '1.36.0' } },
      { ...servers, w1: { version: undefined } },
      { ...servers, w1: { joined: false } },
    ]) {
      expect(followsUpgrade('w1', cluster(changes), TO), JSON.stringify(changes)).toBe(false)
    }
    expect(followsUpgrade('w1', undefined, TO)).toBe(false)
    expect(followsUpgrade('w1', sampleCluster(hosts.filter(({ server }) => !server)), TO)).toBe(false)
  })
})
