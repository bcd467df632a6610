import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { NodeWatch } from './cluster-standing.ts'

const node = (renewedMs: number | undefined, leaseMs?: number) => ({
  name: 'n4',
  uid: 'u',
  saysReady: true,
  kubeletVersion: 'v1.34.3',
  renewedMs,
  leaseMs,
})

describe('T40: a node whose condition says Ready', () => {
  it('is not by a lease that has stopped being renewed for longer than it lasts', () => {
    const watch = new NodeWatch()
    const look = (renewedMs: number, nowMs: number) => watch.see([node(renewedMs)], nowMs)[0]?.ready
    expect(look(1, 0)).toBe(false)
    expect(look(2, 10_000)).toBe(true)
    expect(look(2, 50_000)).toBe(true)
    expect(look(2, 50_001)).toBe(false)
    expect(look(3, 60_000)).toBe(true)
  })

  it('is for as long as a lease says that it lasts', () => {
    const watch = new NodeWatch()
    const look = (renewedMs: number, nowMs: number) => watch.see([node(renewedMs, 200_000)], nowMs)[0]?.ready
    expect([look(1, 0), look(2, 50_000), look(2, 250_000), look(2, 250_001)]).toEqual([
      false,
      true,
      true,
      false,
    ])
  })

  it('tells when its lease was renewed and in which boot it spoke, whatever it says', () => {
    const seen = new NodeWatch().see(
      [
        { ...node(1_500), bootId: 'b' },
        { ...node(undefined), name: 'n5' },
      ],
      0,
    )
    expect(seen).toMatchObject([
      { renewed: { seconds: 1n, nanos: 500_000_000 }, bootId: 'b' },
      { bootId: '' },
    ])
    expect(seen[1]?.renewed).toBeUndefined()
  })

  it('tells who keeps pods from it, as far as there is a Node', () => {
    const seen = new NodeWatch().see(
      [
        { ...node(1), unschedulable: true, cordonedBy: 'o1' },
        { ...node(1), name: 'n5', unschedulable: false },
        { ...node(1), name: 'n6', uid: '' },
      ],
      0,
    )
    expect(seen).toMatchObject([
      { unschedulable: true, cordonedBy: 'o1' },
      { unschedulable: false, cordonedBy: '' },
      { cordonedBy: '' },
    ])
    expect(seen[2]?.unschedulable).toBeUndefined()
  })

  it('is never by a kubelet that died before this server looked twice, nor 40 s after it was last seen to renew', () => {
    const times = fc.array(fc.integer({ min: 1, max: 30_000 }), { minLength: 2, maxLength: 20 })
    fc.assert(
      fc.property(times, fc.nat(200_000), (gaps, diesMs) => {
        const watch = new NodeWatch()
        let nowMs = 0
        let lastSeen: number | undefined
        let shownMs: number | undefined
        for (const gap of gaps) {
          nowMs += gap
          const renewedMs = Math.floor(Math.min(nowMs, diesMs) / 10_000)
          if (lastSeen !== undefined && renewedMs !== lastSeen) shownMs = nowMs
          lastSeen = renewedMs
          const ready = watch.see([node(renewedMs)], nowMs)[0]?.ready
          if (shownMs === undefined || nowMs - shownMs > 40_000) expect(ready).toBe(false)
        }
      }),
    )
  })
})
