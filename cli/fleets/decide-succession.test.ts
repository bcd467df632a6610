import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { sampleRevision } from '../../shared/revision/testing/sample-fleet.ts'
import { decideSuccession } from './decide-succession.ts'

const one = sampleRevision({ number: 1, predecessor: '', floor: 1 }).manifest
const five = sampleRevision().manifest
const otherFive = sampleRevision({ predecessor: '9'.repeat(64) }).manifest
const six = sampleRevision({ number: 6 }).manifest
const none = undefined

describe('decideSuccession', () => {
  it('begins with number 1', () => {
    expect(decideSuccession({ newest: none, lastSeen: none, acceptOlder: false })).toMatchObject({
      number: 1,
      predecessor: '',
      floor: 1,
    })
  })

  it('follows the newest, with its floor', () => {
    expect(decideSuccession({ newest: five, lastSeen: one, acceptOlder: false })).toMatchObject({
      number: 6,
      predecessor: five.digest,
      floor: five.floor,
    })
  })

  it('refuses a coordinator that shows less than was seen, or another one under the same number', () => {
    expect(decideSuccession({ newest: five, lastSeen: six, acceptOlder: false })).toMatchObject({
      kind: 'refused',
    })
    expect(decideSuccession({ newest: otherFive, lastSeen: five, acceptOlder: false })).toMatchObject({
      kind: 'refused',
    })
    expect(decideSuccession({ newest: five, lastSeen: six, acceptOlder: true })).toMatchObject({ number: 6 })
  })

  it('goes on after what was seen when the coordinator lost everything, and says so', () => {
    const decided = decideSuccession({ newest: none, lastSeen: five, acceptOlder: false })
    expect(decided).toMatchObject({ number: 6, predecessor: five.digest })
    expect(decided.kind === 'next' && decided.note).toContain('no revisions')
  })

  it('never signs a number at or below what was seen, unless told to', () => {
    const all = fc.constantFrom(none, one, five, otherFive, six)
    fc.assert(
      fc.property(all, all, (newest, lastSeen) => {
        const decided = decideSuccession({ newest, lastSeen, acceptOlder: false })
        if (decided.kind === 'refused') return
        expect(decided.number).toBeGreaterThan(lastSeen?.number ?? 0)
        expect(decided.number).toBeGreaterThan(newest?.number ?? 0)
      }),
    )
  })
})
