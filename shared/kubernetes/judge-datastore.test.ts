import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { judgeDatastore } from './judge-datastore.ts'
import { parseVersion, type Version, versionText } from './version.ts'

const at = (text: string): Version => {
  const version = parseVersion(text)
  if (!version) throw new Error(`no version: ${text}`)
  return version
}
const hosts = (distribution: string, from: string, to: string) =>
  judgeDatastore(distribution, [{ host: 'a', version: at(from) }], at(to)).map(({ host }) => host)

describe('the datastore of a cluster', () => {
  it('goes to etcd 3.6 from 3.5.26 or newer alone, which k3s has since 1.33.8', () => {
    expect(hosts('k3s', '1.33.7', '1.34.3')).toEqual(['a'])
    expect(hosts('k3s', '1.33.8', '1.34.3')).toEqual([])
    expect(hosts('k3s', '1.33.7', '1.33.9')).toEqual([])
    expect(hosts('k3s', '1.34.0', '1.35.4')).toEqual([])
    const [problem] = judgeDatastore('k3s', [{ host: 'a', version: at('1.33.7+k3s1') }], at('1.34.3'))
    expect(problem?.reason).toContain('go to 1.33.8 or a later 1.33 before')
  })

  it('is not judged by a version that does not tell its own', () => {
    for (const distribution of ['k0s', 'kubernetes', 'components', ''])
      expect(hosts(distribution, '1.33.0', '1.34.3')).toEqual([])
  })

  it('is never led from 3.5 to 3.6 by steps that are taken, but by way of one that is ready', () => {
    const version = fc.record({
      major: fc.constant(1),
      minor: fc.integer({ min: 31, max: 35 }),
      patch: fc.nat(12),
    })
    fc.assert(
      fc.property(fc.array(version, { minLength: 1, maxLength: 20 }), steps => {
        let now = at('1.31.0')
        for (const to of steps) {
          if (hosts('k3s', versionText(now), versionText(to)).length > 0) continue
          if (now.minor < 34 && to.minor >= 34) expect([now.minor, now.patch >= 8]).toEqual([33, true])
          now = to
        }
      }),
    )
  })
})
