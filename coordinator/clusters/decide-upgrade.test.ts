import { describe, expect, it } from 'vitest'
import type { ClusterRecord } from './cluster-record.ts'
import { decideUpgrade } from './decide-upgrade.ts'
import { applyStep } from './steps.ts'
import { foundedRecord, type HostChange, NOW, sampleSnapshot } from './testing/sample-snapshot.ts'

const TO = { major: 1, minor: 35, patch: 4 }
const upgrade = (changes: Readonly<Record<string, HostChange>> = {}, record: Partial<ClusterRecord> = {}) =>
  decideUpgrade(sampleSnapshot(changes, record), TO, NOW)
const newer = { version: '1.35.4' }

describe('an upgrade', () => {
  it('moves one server after the other, the first server last, then the workers', () => {
    expect(upgrade()).toMatchObject({ problems: [], server: 'b', workers: [] })
    expect(upgrade({ b: newer })).toMatchObject({ server: 'c', workers: [] })
    expect(upgrade({ b: newer, c: newer })).toMatchObject({ server: 'a', workers: [] })
    expect(upgrade({ a: newer, b: newer, c: newer, d: newer })).toMatchObject({
      server: undefined,
      workers: ['e'],
    })
  })

  it('stops where the datastore would not agree, or while another server changes', () => {
    const ill = upgrade({ c: { member: { healthy: false } } })
    expect(ill).toMatchObject({ server: undefined, waiting: [{ host: 'b', reason: { gate: 'quorum' } }] })
    const mint = { kind: 'mint', machine: 'm-f', host: 'f', role: 'server', minter: 'm-a', why: '' } as const
    const joining = upgrade({}, applyStep(foundedRecord(), mint, NOW))
    expect(joining).toMatchObject({
      server: undefined,
      waiting: [{ reason: { gate: 'server-change', host: 'f' } }],
    })
  })

  it('stops for a server of which nothing is known, and passes by a worker like that', () => {
    expect(upgrade({ c: { agoMs: 100_000 } })).toMatchObject({ server: undefined, waiting: [{ host: 'c' }] })
    expect(upgrade({ d: { connected: false } })).toMatchObject({ server: 'b', waiting: [{ host: 'd' }] })
  })

  it('is refused as a whole when a kubelet would be left too far behind', () => {
    expect(upgrade({ d: { version: '1.31.0' } })).toMatchObject({
      problems: [{ rule: 'kubelet-older', host: 'd' }],
      server: undefined,
    })
  })
})
