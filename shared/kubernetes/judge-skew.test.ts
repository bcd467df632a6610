import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { judgeJoin, judgeMove, judgeReturn, judgeTarget, type Running } from './judge-skew.ts'
import { compareVersions, minorsAhead, parseVersion, type Version } from './version.ts'

const at = (text: string): Version => {
  const version = parseVersion(text)
  if (!version) throw new Error(`no version: ${text}`)
  return version
}
const run = (all: Readonly<Record<string, string>>): Running[] =>
  Object.entries(all).map(([host, text]) => ({ host, version: at(text) }))
const rules = (problems: readonly { rule: string; host: string }[]) =>
  problems.map(({ rule, host }) => `${rule} ${host}`)

describe('versions', () => {
  it('are read with what distributions put around them, and nothing else is', () => {
    for (const text of ['1.34.3', 'v1.34.3', 'v1.34.3+k3s1', 'v1.34.3+k0s.0', '1.34.3-rc.1+build']) {
      expect(parseVersion(text)).toEqual({ major: 1, minor: 34, patch: 3 })
    }
    for (const text of ['', '1.34', 'v1.34.x', '1.34.3 ', '1.34.3\n', '99999.1.1']) {
      expect(parseVersion(text)).toBeUndefined()
    }
  })
})

describe('bringing a cluster to a version', () => {
  it('goes up by patches and by one minor', () => {
    expect(judgeTarget(run({ a: '1.34.3' }), run({ d: '1.34.3' }), at('1.34.9'))).toEqual([])
    expect(judgeTarget(run({ a: '1.34.3' }), run({ d: '1.34.3' }), at('1.35.4'))).toEqual([])
    expect(judgeTarget(run({ a: '1.34.9' }), [], at('1.34.3'))).toEqual([])
  })

  it('never skips a minor on a server, nor goes back one', () => {
    expect(rules(judgeTarget(run({ a: '1.33.0', b: '1.34.0' }), [], at('1.35.4')))).toEqual([
      'skipped-minor a',
    ])
    expect(rules(judgeTarget(run({ a: '1.35.4', b: '1.34.3' }), [], at('1.34.3')))).toEqual(['downgrade a'])
    expect(rules(judgeTarget(run({ a: '1.35.4' }), [], at('2.0.0')))).toEqual(['skipped-minor a'])
  })

  it('leaves no kubelet more than three minors behind, and none ahead', () => {
    const workers = run({ d: '1.31.0', e: '1.32.0', f: '1.36.0' })
    expect(rules(judgeTarget(run({ a: '1.34.3' }), workers, at('1.35.0')))).toEqual([
      'kubelet-older d',
      'kubelet-newer f',
    ])
  })
})

describe('bringing one host to a version', () => {
  const servers = run({ a: '1.35.4', b: '1.34.3', c: '1.34.3' })

  it('moves workers after the oldest server', () => {
    expect(rules(judgeMove('d', false, at('1.35.4'), servers, run({ d: '1.34.3' })))).toEqual([
      'kubelet-newer d',
      'kubelet-newer d',
    ])
    expect(judgeMove('d', false, at('1.34.9'), servers, run({ d: '1.34.3' }))).toEqual([])
    expect(judgeMove('d', false, at('1.32.0'), servers, [])).toEqual([])
    expect(rules(judgeMove('d', false, at('1.31.0'), servers, []))).toEqual(['kubelet-older d'])
  })

  it('keeps servers within one minor of each other', () => {
    expect(judgeMove('b', true, at('1.35.4'), servers, [])).toEqual([])
    const apart = run({ a: '1.33.0', b: '1.34.3' })
    expect(rules(judgeMove('b', true, at('1.35.0'), apart, []))).toEqual(['servers-apart b'])
  })

  it('never makes an API server older than a kubelet', () => {
    expect(rules(judgeMove('b', true, at('1.34.3'), servers, run({ d: '1.35.0' })))).toEqual([
      'kubelet-newer b',
    ])
  })

  it('lets a host join only with what it might be moved to, and no server that is behind all others', () => {
    const servers = run({ a: '1.34.3', b: '1.34.3' })
    expect(rules(judgeJoin('d', false, at('1.35.4'), servers, []))).toEqual([
      'kubelet-newer d',
      'kubelet-newer d',
    ])
    expect(judgeJoin('d', false, at('1.33.0'), servers, [])).toEqual([])
    expect(judgeJoin('c', true, at('1.35.4'), servers, [])).toEqual([])
    expect(rules(judgeJoin('c', true, at('1.33.0'), servers, []))).toEqual(['downgrade c'])
    expect(judgeJoin('c', true, at('1.34.0'), run({ a: '1.34.3', b: '1.35.4' }), [])).toEqual([])
    expect(rules(judgeJoin('c', true, at('1.34.3'), run({ a: '1.34.3' }), run({ d: '1.35.4' })))).toEqual([
      'kubelet-newer c',
    ])
    // What it ran before it was installed anew is of no matter, and the first one has nobody to fit.
    expect(judgeJoin('c', true, at('1.34.3'), run({ a: '1.34.3', c: '1.35.4' }), [])).toEqual([])
    expect(judgeJoin('c', true, at('1.34.3'), [], [])).toEqual([])
  })

  it('keeps the skew of the whole cluster whatever order the hosts are moved in', () => {
    const version = fc.record({
      major: fc.constant(1),
      minor: fc.integer({ min: 30, max: 37 }),
      patch: fc.nat(3),
    })
    const moves = fc.array(fc.record({ host: fc.constantFrom('a', 'b', 'c', 'd', 'e'), to: version }), {
      maxLength: 60,
    })
    fc.assert(
      fc.property(moves, all => {
        const now = new Map(['a', 'b', 'c', 'd', 'e'].map(host => [host, at('1.33.0')]))
        const part = (names: string) =>
          [...now].filter(([h]) => names.includes(h)).map(([host, v]) => ({ host, version: v }))
        for (const { host, to } of all) {
          const server = host < 'd'
          if (judgeMove(host, server, to, part('abc'), part('de')).length > 0) continue
          const before = now.get(host)
          if (server && before) expect(minorsAhead(to, before)).toBeOneOf([0, 1])
          now.set(host, to)
          const apis = part('abc').map(({ version: v }) => v)
          const oldest = apis.reduce((a, b) => (compareVersions(a, b) < 0 ? a : b))
          const newest = apis.reduce((a, b) => (compareVersions(a, b) > 0 ? a : b))
          expect(minorsAhead(newest, oldest)).toBeLessThanOrEqual(1)
          for (const { version: kubelet } of part('de')) {
            expect(minorsAhead(kubelet, oldest)).toBeLessThanOrEqual(0)
            expect(minorsAhead(newest, kubelet)).toBeLessThanOrEqual(3)
          }
        }
      }),
    )
  })
})

describe('going back by itself', () => {
  const judge = (change: Partial<Parameters<typeof judgeReturn>[0]>) =>
    judgeReturn({ server: true, from: at('1.35.4'), to: at('1.34.3'), started: true, ...change })

  it('never takes a server across a minor that has started', () => {
    expect(judge({})).toMatchObject({ may: false, reason: expect.stringContaining('snapshot') })
    expect(judge({ started: undefined })).toMatchObject({ may: false })
    expect(judge({ from: undefined })).toMatchObject({ may: false })
    expect(judge({ to: undefined })).toMatchObject({ may: false })
  })

  it('is free within a minor, before anything has started, and on workers', () => {
    expect(judge({ to: at('1.35.0') })).toEqual({ may: true })
    expect(judge({ started: false })).toEqual({ may: true })
    expect(judge({ server: false })).toEqual({ may: true })
  })
})
