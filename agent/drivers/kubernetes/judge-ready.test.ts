import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { evidence } from '../testing/made-up-objects.ts'
import { bareVersion, isVersion, judgeReady, type ReadyWish } from './judge-ready.ts'

const wish: ReadyWish = { version: '1.34.3', before: undefined, rebooted: false }

describe('a node is Ready', () => {
  it('when its lease was renewed since the step', () => {
    expect(judgeReady(evidence(1_000), evidence(11_000), wish)).toEqual({ kind: 'ready' })
  })

  it.each([
    ['read only once', undefined, evidence(1_000), /only once/],
    ['T40: the lease is as old as before', evidence(1_000), evidence(1_000), /not renewed its lease/],
    ['no lease', evidence(1_000), evidence(undefined), /no lease/],
    ['no lease when it was first read', evidence(undefined), evidence(1_000), /not renewed/],
    [
      'another version',
      evidence(1),
      evidence(2, { kubeletVersion: 'v1.35.4' }),
      /v1\.35\.4, wanted 1\.34\.3/,
    ],
    ['made anew', evidence(1, { uid: 'old' }), evidence(2), /made anew/],
    ['deleted', evidence(1), evidence(2, { deleting: true }), /being deleted/],
    ['no condition', evidence(1), evidence(2, { ready: undefined }), /no Ready condition/],
    [
      'not Ready',
      evidence(1),
      evidence(2, {
        ready: { status: 'False', heartbeatMs: 1, reason: 'KubeletNotReady', message: 'no CNI' },
      }),
      /KubeletNotReady: no CNI/,
    ],
  ])('but not with %s', (_, first, seen, reason) => {
    const verdict = judgeReady(first, seen, wish)
    expect(verdict).toMatchObject({ kind: 'waiting', reason: expect.stringMatching(reason) })
  })

  it('T40: after a restart only when its kubelet said Ready since, whatever the lease says', () => {
    const before = evidence(1_000)
    const restarted = { ...wish, before }
    expect(judgeReady(evidence(2_000), evidence(12_000), restarted)).toMatchObject({
      reason: expect.stringContaining('since it was started anew'),
    })
    const said = { ready: { status: 'True', heartbeatMs: 2_000, reason: '', message: '' } as const }
    expect(judgeReady(evidence(2_000), evidence(12_000, said), restarted)).toEqual({ kind: 'ready' })
  })

  it('T40: after a reboot only with another boot id', () => {
    const rebooted = { ...wish, before: evidence(1_000), rebooted: true }
    const said = { ready: { status: 'True', heartbeatMs: 2_000, reason: '', message: '' } as const }
    expect(judgeReady(evidence(2_000), evidence(12_000, said), rebooted)).toMatchObject({
      reason: 'it has not booted anew',
    })
    expect(judgeReady(evidence(2_000), evidence(12_000, { ...said, bootId: 'boot-2' }), rebooted)).toEqual({
      kind: 'ready',
    })
  })

  it('never on a reading that is no newer than the first one', () => {
    fc.assert(
      fc.property(
        fc.integer(),
        fc.nat(),
        fc.boolean(),
        fc.boolean(),
        (renewed, older, restarted, rebooted) => {
          const before = restarted ? evidence(renewed - 10) : undefined
          const verdict = judgeReady(evidence(renewed), evidence(renewed - older), {
            ...wish,
            before,
            rebooted,
          })
          expect(verdict.kind).toBe('waiting')
        },
      ),
    )
  })
})

describe('a version', () => {
  it.each([
    ['v1.34.3+k3s1', '1.34.3', true],
    ['v1.34.3+k0s', 'v1.34.3', true],
    ['v1.34.3-rc.1', '1.34.3', true],
    ['v1.34.30', '1.34.3', false],
    ['', '1.34.3', false],
  ])('%s is %s: %s', (said, wanted, same) => expect(isVersion(said, wanted)).toBe(same))

  it('is told without what stands around it', () => expect(bareVersion('v1.35.4+k0s.0')).toBe('1.35.4'))
})
