import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { CertificateKind } from '../../shared/gen/muster/v1/cluster_pb.ts'
import type { CertificateEnd } from '../drivers/node/certificates.ts'
import { done, failed, type Result } from '../drivers/result.ts'
import { CertificateWatch, kindOf, soonestEnds } from './certificate-watch.ts'

const NOW = Date.UTC(2026, 10, 20, 12)
const DAY = 86_400_000
const MINUTE = 60_000
const end = (path: string, endsMs: number, authority = false): CertificateEnd => ({
  path,
  subject: 'CN=x',
  beganMs: 0,
  endsMs,
  authority,
})

/** A watch whose readings a test counts and answers. */
function watched(first: Result<readonly CertificateEnd[]>) {
  const made = { answer: first, reads: 0, steadyMs: 0 }
  const watch = new CertificateWatch({ now: () => new Date(NOW) }, () => made.steadyMs)
  const look = (authority = 'a') =>
    watch.look(authority, async () => {
      made.reads += 1
      return made.answer
    })
  const later = async (ms: number, authority?: string) => {
    await watch.idle()
    made.steadyMs += ms
    return look(authority)
  }
  return { made, look, later }
}
const far = done([end('/pki/a.crt', NOW + 300 * DAY)])
const near = done([end('/pki/a.crt', NOW + 20 * DAY)])

describe('the ends of a node’s certificates', () => {
  it('are told apart by what makes them anew', () => {
    const kinds = (path: string, authority = false) => kindOf({ path, authority })
    expect(kinds('/var/lib/kubelet/pki/kubelet-client-current.pem')).toBe(CertificateKind.RENEWED)
    expect(kinds('/var/lib/k0s/kubelet/pki/kubelet-server-current.pem')).toBe(CertificateKind.RENEWED)
    expect(kinds('/var/lib/kubelet/pki/kubelet.crt')).toBe(CertificateKind.SELF_SIGNED)
    expect(kinds('/var/lib/rancher/k3s/agent/client-kubelet.crt')).toBe(CertificateKind.ORDERED)
    expect(kinds('/var/lib/rancher/k3s/agent/serving-kubelet.crt')).toBe(CertificateKind.ORDERED)
    expect(kinds('/var/lib/kubernetes/pki/apiserver.crt')).toBe(CertificateKind.ORDERED)
    expect(kinds('/var/lib/kubernetes/pki/ca.crt', true)).toBe(CertificateKind.AUTHORITY)
  })

  it('are told as the soonest of each kind that is there, in whatever order they were read', () => {
    const paths = fc.constantFrom('/pki/kubelet-client-current.pem', '/pki/kubelet.crt', '/pki/a', '/pki/b')
    const all = fc.array(fc.tuple(paths, fc.nat(1_000), fc.boolean()), { maxLength: 30 })
    fc.assert(
      fc.property(all, made => {
        const ends = made.map(([path, seconds, authority]) => end(path, seconds * 1_000, authority))
        const told = soonestEnds(ends)
        expect(new Set(told.map(({ kind }) => kind))).toEqual(new Set(ends.map(kindOf)))
        expect(new Set(told.map(({ kind }) => kind)).size).toBe(told.length)
        for (const { kind, notAfter } of told) {
          const ofKind = ends.filter(each => kindOf(each) === kind).map(({ endsMs }) => endsMs)
          expect(Number(notAfter?.seconds) * 1_000).toBe(Math.min(...ofKind))
        }
      }),
    )
  })

  it('are read once an hour, and nobody who asks waits for it', async () => {
    const { made, look, later } = watched(far)
    expect(look()).toBeUndefined()
    expect(await later(0)).toMatchObject({ soonest: [{ path: '/pki/a.crt' }], unreadable: '' })
    expect(await later(59 * MINUTE)).toBeDefined()
    expect(made.reads).toBe(1)
    expect(await later(MINUTE)).toBeDefined()
    expect(made.reads).toBe(2)
  })

  it('are read every minute while they are near or unreadable, so that what was mended shows', async () => {
    const { made, look, later } = watched(near)
    look()
    made.answer = failed('unreadable', 'x.crt: holds no certificate')
    await later(MINUTE)
    expect(await later(MINUTE)).toMatchObject({
      soonest: [],
      unreadable: 'unreadable: x.crt: holds no certificate',
    })
    made.answer = far
    await later(MINUTE)
    expect((await later(0))?.unreadable).toBe('')
    await later(MINUTE)
    expect(made.reads).toBe(4)
  })

  it('are never those of another cluster, and none is never well', async () => {
    const { made, look, later } = watched(far)
    look()
    made.answer = done([])
    expect(await later(0, 'b')).toBeUndefined()
    expect(await later(0, 'b')).toMatchObject({ soonest: [], unreadable: 'no certificate was found' })
  })

  it('do not keep a failure that nobody foresaw from being told', async () => {
    const watch = new CertificateWatch({ now: () => new Date(NOW) }, () => 0)
    const look = () =>
      watch.look('a', async () => {
        throw new Error('EACCES')
      })
    look()
    await watch.idle()
    expect(look()).toMatchObject({ unreadable: expect.stringContaining('EACCES') })
  })
})
