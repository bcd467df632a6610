import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { SoonestEnd } from '../clusters/cluster-snapshot.ts'
import { type ClusterNodeLife, judgeCertificates, WARN_MS } from './judge-certificates.ts'

const NOW = Date.UTC(2026, 10, 20, 12)
const DAY = 86_400_000
const YEAR = 365 * DAY

const end = (kind: SoonestEnd['kind'], leftMs: number, lifeMs = YEAR, path = '/x.crt'): SoonestEnd => ({
  kind,
  path,
  endsMs: NOW + leftMs,
  beganMs: NOW + leftMs - lifeMs,
})
const node = (soonest: readonly SoonestEnd[], change: Partial<ClusterNodeLife> = {}): ClusterNodeLife => ({
  machine: 'm1',
  host: 'olaf',
  cluster: 'home',
  distribution: 'k3s',
  server: true,
  certificates: { kind: 'read', soonest },
  ...change,
})
const judge = (soonest: readonly SoonestEnd[], change: Partial<ClusterNodeLife> = {}) =>
  judgeCertificates([node(soonest, change)], NOW)

describe('P5: certificates of clusters', () => {
  it('are named thirty days before they end, with the command that makes them anew', () => {
    expect(judge([end('ordered', 30 * DAY)])).toEqual([])
    expect(judge([end('ordered', 30 * DAY - 1, YEAR, '/k3s/serving.crt')])).toEqual([
      {
        class: 'cluster-certificate',
        machine: 'm1',
        host: 'olaf',
        sinceMs: NOW - 1,
        reason: 'a certificate of cluster home ends at 2026-12-20T11:59:59.999Z (/k3s/serving.crt)',
        remedy: 'muster cluster rotate home certificates --on olaf',
      },
    ])
  })

  it('are told apart once they have ended: a worker has nothing to show any more, and k3s renews at a start', () => {
    expect(judge([end('ordered', 0)])[0]?.remedy).toMatch(/rotate home .*start k3s anew on olaf/)
    expect(judge([end('ordered', 0)])[0]?.reason).toContain(' ended at ')
    expect(judge([end('ordered', 1)], { server: false })[0]?.remedy).toContain('cluster rotate home')
    expect(judge([end('ordered', 0)], { server: false })[0]?.remedy).toMatch(/leave olaf.*rejoin olaf/)
    expect(judge([end('ordered', 0)], { distribution: 'components' })[0]?.remedy).not.toContain('k3s')
  })

  it('that a kubelet renews by itself are named only when it should have', () => {
    expect(judge([end('renewed', 35 * DAY)])).toEqual([])
    expect(judge([end('renewed', 29 * DAY)])[0]?.remedy).toContain('look at the kubelet on olaf')
    // Of thirty days a kubelet may leave three.
    expect(judge([end('renewed', 3 * DAY, 30 * DAY)])).toEqual([])
    expect(judge([end('renewed', 2 * DAY, 30 * DAY)])).toHaveLength(1)
  })

  it('made for a short time are not near their end from the first day', () => {
    expect(judge([end('ordered', 11 * DAY, 30 * DAY)])).toEqual([])
    expect(judge([end('ordered', 9 * DAY, 30 * DAY)])).toHaveLength(1)
  })

  it('of a kubelet that signed its own are to be taken away, since a rotation leaves them', () => {
    const path = '/var/lib/kubelet/pki/kubelet.crt'
    expect(judge([end('self-signed', 29 * DAY, YEAR, path)])[0]?.remedy).toMatch(
      /kubelet\.crt and its key away, then muster restart olaf/,
    )
  })

  it('of authorities are named earlier, and once for a cluster', () => {
    const tenYears = 10 * YEAR
    const nodes = [
      node([end('authority', 170 * DAY, tenYears, '/later')]),
      node([end('authority', 160 * DAY, tenYears, '/sooner')], { machine: 'm2', host: 'erik' }),
      node([end('authority', 181 * DAY, tenYears)], { machine: 'm3', host: 'nils', cluster: 'other' }),
    ]
    const named = judgeCertificates(nodes, NOW)
    expect(named).toMatchObject([
      { machine: 'm2', reason: expect.stringMatching(/^an authority’s .*\(\/sooner\)$/) },
    ])
    expect(named[0]?.remedy).toMatch(/^no command of Muster/)
  })

  it('that cannot be read are not taken for good', () => {
    const certificates = { kind: 'unreadable', reason: 'pki/x.crt: holds no certificate' } as const
    expect(judge([], { certificates })).toMatchObject([
      { host: 'olaf', reason: expect.stringContaining('pki/x.crt: holds no certificate') },
    ])
  })

  it('are never well again by waiting, and never end without having been named', () => {
    const ends = fc.record({
      kind: fc.constantFrom('ordered', 'renewed', 'self-signed', 'authority'),
      leftMs: fc.integer({ min: -YEAR, max: YEAR }),
      lifeMs: fc.integer({ min: DAY, max: 10 * YEAR }),
    })
    fc.assert(
      fc.property(ends, fc.nat(2 * YEAR), ({ kind, leftMs, lifeMs }, waitMs) => {
        const one = node([end(kind, leftMs, lifeMs)])
        const now = judgeCertificates([one], NOW)
        const later = judgeCertificates([one], NOW + waitMs)
        expect(later.length).toBeGreaterThanOrEqual(now.length)
        if (leftMs <= 0) expect(now).toHaveLength(1)
        // Whoever looks once a day hears of what lives a year at least thirty days before.
        if (kind === 'ordered' && lifeMs >= YEAR) expect(now.length).toBe(leftMs < WARN_MS ? 1 : 0)
        for (const { sinceMs } of now) expect(sinceMs).toBeLessThanOrEqual(NOW)
      }),
    )
  })
})
