import { describe, expect, it } from 'vitest'
import { nodeReading } from '../testing/made-up-objects.ts'
import { judgeCordon, judgeUncordon } from './cordon.ts'

describe('a cordon', () => {
  it('is set on an open node, and is ours', () => {
    expect(judgeCordon(nodeReading(), 'op1')).toEqual({ kind: 'set' })
    // A mark that outlived its cordon says nothing.
    expect(judgeCordon(nodeReading({ cordonedBy: 'op0' }), 'op1')).toEqual({ kind: 'set' })
  })

  it('is not set twice', () => {
    expect(judgeCordon(nodeReading({ unschedulable: true, cordonedBy: 'op1' }), 'op1')).toEqual({
      kind: 'ours',
    })
  })

  it('K21: of a person stays a person’s', () => {
    const theirs = nodeReading({ unschedulable: true })
    expect(judgeCordon(theirs, 'op1')).toEqual({ kind: 'others' })
    expect(judgeUncordon(theirs, 'op1')).toMatchObject({
      kind: 'refuse',
      reason: expect.stringContaining('somebody else'),
    })
  })

  it('of another operation stays that one’s', () => {
    const earlier = nodeReading({ unschedulable: true, cordonedBy: 'op0' })
    expect(judgeCordon(earlier, 'op1')).toEqual({ kind: 'others' })
    expect(judgeCordon(earlier, 'op1', 'op-other')).toEqual({ kind: 'others' })
    // That it may take over some cordon gives it none of a person.
    expect(judgeCordon(nodeReading({ unschedulable: true }), 'op1', 'op0')).toEqual({ kind: 'others' })
  })

  it('of the operation that it goes on from is taken over, and lifted by that one no more', () => {
    expect(judgeCordon(nodeReading({ unschedulable: true, cordonedBy: 'op0' }), 'op1', 'op0')).toEqual({
      kind: 'set',
    })
    const ours = nodeReading({ unschedulable: true, cordonedBy: 'op1' })
    expect(judgeUncordon(ours, 'op0')).toMatchObject({
      kind: 'refuse',
      reason: expect.stringContaining('by operation op1'),
    })
    expect(judgeUncordon(ours, 'op1')).toEqual({ kind: 'lift' })
  })

  it('that somebody lifted leaves only its mark to be taken off', () => {
    expect(judgeUncordon(nodeReading({ cordonedBy: 'op1' }), 'op1')).toEqual({ kind: 'open', marked: true })
    expect(judgeUncordon(nodeReading(), 'op1')).toEqual({ kind: 'open', marked: false })
  })
})
