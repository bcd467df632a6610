import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { member } from '../testing/made-up-objects.ts'
import { majority, whyNotAdd, whyNotRemove, whyNotStop } from './judge-change.ts'
import type { SeenMember } from './member.ts'

const [a, bb, ccc] = [member('a'), member('bb'), member('ccc')]
const ill = (each: SeenMember): SeenMember => ({ ...each, healthy: false })

describe('taking a member out', () => {
  it.each<[string, readonly SeenMember[], string, RegExp | undefined]>([
    ['of three', [a, bb, ccc], a.id, undefined],
    ['of two', [a, bb], bb.id, undefined],
    ['of one', [a], a.id, /last voter/],
    ['that is ill', [a, bb, ill(ccc)], ccc.id, undefined],
    ['that is well while another is ill', [a, bb, ill(ccc)], a.id, /1 of the 2 voters/],
    ['without a majority', [a, ill(bb)], bb.id, /without a majority/],
    ['T39: while a learner joins', [a, bb, member('dddd', { learner: true })], bb.id, /is joining/],
    [
      'that is a learner',
      [a, bb, member('dddd', { learner: true, healthy: false })],
      member('dddd').id,
      undefined,
    ],
    ['that never started', [a, bb, ccc, member('', { healthy: false })], member('').id, undefined],
    [
      'that is well beside one that never started',
      [a, bb, member('', { healthy: false })],
      bb.id,
      /is joining/,
    ],
    ['that is not there', [a], 'f00', /no member/],
  ])('%s', (_, members, id, reason) => {
    const why = whyNotRemove(members, id)
    if (reason) expect(why).toMatch(reason)
    else expect(why).toBeUndefined()
  })

  const anyMembers = fc
    .array(fc.record({ learner: fc.boolean(), healthy: fc.boolean(), started: fc.boolean() }), {
      minLength: 1,
      maxLength: 7,
    })
    .map(list =>
      list.map((each, index) =>
        member(each.started ? 'm'.repeat(index + 1) : '', { ...each, id: (index + 1).toString(16) }),
      ),
    )

  it('T39: never leaves the datastore without a majority of healthy voters', () => {
    fc.assert(
      fc.property(anyMembers, fc.nat({ max: 6 }), (members, index) => {
        const own = members[index % members.length]
        if (!own || whyNotRemove(members, own.id) !== undefined) return
        const left = members.filter(({ id, learner }) => id !== own.id && !learner)
        expect(left.filter(({ healthy }) => healthy).length).toBeGreaterThanOrEqual(majority(left.length))
        expect(left.length).toBeGreaterThan(0)
      }),
    )
  })

  it('and stopping one never do so either, but for a single one', () => {
    fc.assert(
      fc.property(anyMembers, fc.nat({ max: 6 }), (members, index) => {
        const own = members[index % members.length]
        if (!own || whyNotStop(members, own.id) !== undefined) return
        const voters = members.filter(({ learner }) => !learner)
        const left = voters.filter(({ id, healthy }) => id !== own.id && healthy)
        if (voters.length === 1 && voters[0]?.id === own.id) return
        expect(left.length).toBeGreaterThanOrEqual(majority(voters.length))
      }),
    )
  })
})

describe('adding a member', () => {
  it.each<[string, readonly SeenMember[], RegExp | undefined]>([
    ['to healthy ones', [a, bb], undefined],
    ['to one', [a], undefined],
    ['while one is ill', [a, bb, ill(ccc)], /ccc does not/],
    ['T39: while another joins', [a, member('', { learner: true })], /one at a time/],
    ['to none', [], /0 of 0/],
  ])('%s', (_, members, reason) => {
    const why = whyNotAdd(members)
    if (reason) expect(why).toMatch(reason)
    else expect(why).toBeUndefined()
  })
})

describe('stopping a server', () => {
  it.each<[string, readonly SeenMember[], string, boolean]>([
    ['of three', [a, bb, ccc], a.id, true],
    ['of two', [a, bb], a.id, false],
    ['of one', [a], a.id, true],
    ['while another is ill', [a, bb, ill(ccc)], a.id, false],
    ['that is the ill one', [a, bb, ill(ccc)], ccc.id, true],
    ['while a learner joins', [a, bb, ccc, member('dddd', { learner: true })], a.id, false],
  ])('%s', (_, members, id, may) => expect(whyNotStop(members, id) === undefined).toBe(may))
})
