import { describe, expect, it } from 'vitest'
import { idleTimes, kubeletStarts, unionMs, type Work } from './own-work.ts'
import { Gap } from './seen.ts'

const work = (fromMs: number, toMs: number, what = 'x'): Work => ({ host: 'n1', what, fromMs, toMs })

describe('the figures of a rolling upgrade', () => {
  it('count what was done at the same time once', () => {
    expect(unionMs([])).toBe(0)
    expect(unionMs([work(0, 10), work(5, 15), work(7, 8), work(20, 21)])).toBe(16)
    expect(unionMs([work(20, 21), work(0, 10)])).toBe(11)
  })

  it('name the stretches in which nobody worked, the longest first', () => {
    expect(idleTimes([work(2, 10, 'a'), work(3, 5, 'b'), work(15, 16, 'c')], 0, 17)).toEqual([
      { ms: 5, after: 'n1 a', before: 'n1 c' },
      { ms: 2, after: 'the start', before: 'n1 a' },
      { ms: 1, after: 'n1 c', before: 'the end' },
    ])
  })

  it('count the start of a kubelet as work of its node, from the end of its restart until it is Ready', () => {
    const seen = (atMs: number, version: string, ready = true) => ({
      atMs,
      node: 'n1',
      schedulable: true,
      ready,
      version,
    })
    const restart = work(10, 12, 'apply: kubernetes')
    const nodes = [seen(0, 'v1'), seen(11, 'v1', false), seen(13, 'v2', false), seen(15, 'v2')]
    expect(kubeletStarts([work(0, 9, 'apply: fetch'), restart], nodes)).toEqual([
      { host: 'n1', what: 'kubelet: until Ready', fromMs: 12, toMs: 15 },
    ])
    // Seen before the restart was over: its own step counts.
    expect(kubeletStarts([restart], [seen(0, 'v1'), seen(11, 'v2')])).toEqual([])
    // It never came, or it is another node.
    expect(kubeletStarts([restart], nodes.slice(0, 3))).toEqual([])
    expect(kubeletStarts([{ ...restart, host: 'n2' }], nodes)).toEqual([])
  })

  it('take silence that does not end for as long as it was seen', () => {
    const gap = new Gap()
    for (const at of [100, 110, 150, 155]) gap.success(at)
    expect(gap.end(160)).toBe(40)
    expect(gap.end(1_155)).toBe(1_000)
    expect(new Gap().end(5)).toBe(Number.POSITIVE_INFINITY)
  })
})
