import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Disturbance, type NodeEvidence, whyNotRenewed } from './new-evidence.ts'

const ACTED = 1_000_000
/** By the node's own clock, which is an hour behind. */
const STEP: Disturbance = { startedMs: -2_700_000, endedMs: -2_600_000 }

const evidence = (change: Partial<NodeEvidence> = {}): NodeEvidence => ({
  renewedMs: STEP.startedMs - 5_000,
  renewedAfterMs: undefined,
  startedMs: undefined,
  bootId: 'boot-2',
  ownBootId: 'boot-2',
  ...change,
})

describe('T40: a lease that was renewed since a step', () => {
  it.each([
    [
      'by a kubelet that was started within it',
      { startedMs: STEP.startedMs + 9, renewedMs: STEP.startedMs + 10 },
    ],
    ['after all that it did was over, whenever the kubelet was started', { renewedMs: STEP.endedMs + 1 }],
    ['by two answers to questions asked after it', { renewedAfterMs: ACTED + 1 }],
  ])('is evidence: %s', (_, change) => {
    expect(whyNotRenewed(evidence(change), ACTED, STEP)).toBeUndefined()
  })

  it.each([
    ['was renewed last before the step', {}, /not renewed its lease since/],
    ['was renewed within it, by the kubelet of before', { renewedMs: STEP.startedMs + 10 }, /not renewed/],
    [
      'was renewed before the kubelet was started that runs',
      { startedMs: STEP.startedMs + 10, renewedMs: STEP.startedMs + 9 },
      /not renewed/,
    ],
    [
      'by two answers was renewed at some time, which may be of before',
      { renewedAfterMs: ACTED },
      /not renewed/,
    ],
    [
      'is of a kubelet that said nothing since the boot',
      { renewedMs: 5, bootId: 'boot-1' },
      /since its machine booted/,
    ],
    ['is of no kubelet at all', { renewedMs: undefined, renewedAfterMs: ACTED + 1 }, /no lease/],
  ])('is not shown where it %s', (_, change, reason) => {
    expect(whyNotRenewed(evidence(change), ACTED, STEP)).toMatch(reason)
  })

  it('takes two answers where nobody says when the step stopped anything', () => {
    const started = evidence({ startedMs: 0, renewedMs: 10 })
    expect(whyNotRenewed(started, ACTED, undefined)).toMatch(/not renewed/)
    expect(whyNotRenewed({ ...started, renewedAfterMs: ACTED + 1 }, ACTED, undefined)).toBeUndefined()
  })

  it('is never one that its kubelet renewed before it was stopped, whatever both clocks show', () => {
    const world = fc.record({
      clockMs: fc.integer({ min: -3_600_000, max: 3_600_000 }),
      stoppedMs: fc.integer({ min: ACTED - 60_000, max: ACTED }),
      agoMs: fc.integer({ min: 0, max: 100_000 }),
      startsMs: fc.option(fc.nat(60_000), { nil: undefined }),
      seenMs: fc.integer({ min: ACTED + 1, max: ACTED + 60_000 }),
      told: fc.boolean(),
    })
    fc.assert(
      fc.property(world, ({ clockMs, stoppedMs, agoMs, startsMs, seenMs, told }) => {
        // The kubelet was stopped, and was perhaps started again, and never renewed anything since.
        const own = (ms: number) => ms + clockMs
        const seen: NodeEvidence = {
          renewedMs: own(stoppedMs - agoMs),
          renewedAfterMs: stoppedMs - agoMs - 1,
          startedMs: startsMs === undefined ? undefined : own(Math.min(stoppedMs + startsMs, seenMs)),
          bootId: undefined,
          ownBootId: undefined,
        }
        const step = { startedMs: own(stoppedMs - 60_000), endedMs: own(Math.max(stoppedMs, ACTED - 1)) }
        expect(whyNotRenewed(seen, ACTED, told ? step : undefined)).toBeDefined()
      }),
    )
  })
})
