import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { DatastoreMember } from './cluster-snapshot.ts'
import {
  countQuorum,
  majority,
  readQuorum,
  whyNoQuorum,
  whyNotAdd,
  whyNotRemove,
  whyNotStop,
} from './quorum.ts'
import { NOW, sampleSnapshot } from './testing/sample-snapshot.ts'

const member = (name: string, healthy = true, learner = false): DatastoreMember => ({
  name,
  healthy,
  learner,
})
const of = (...members: DatastoreMember[]) => countQuorum(members)

const anyMembers = fc
  .array(fc.record({ healthy: fc.boolean(), learner: fc.boolean() }), { minLength: 1, maxLength: 7 })
  .map(list => list.map((each, index) => ({ ...each, name: `m${index}` })))

describe('quorum', () => {
  it('T39: does not count learners, neither as voters nor as healthy', () => {
    const quorum = of(member('a'), member('b', false), member('c', true, true))
    expect(quorum).toMatchObject({ voters: 2, healthy: 1 })
    expect(whyNoQuorum(quorum)).toMatchObject({ gate: 'quorum', unhealthy: ['b'] })
    expect(whyNotAdd(of(member('a'), member('c', true, true)))).toEqual({ gate: 'learner', name: 'c' })
    expect(whyNotAdd(of(member('a'), member('', false)))).toEqual({ gate: 'learner', name: '' })
  })

  it('takes a new member only when every voter is healthy', () => {
    expect(whyNotAdd(of(member('a')))).toBeUndefined()
    expect(whyNotAdd(of(member('a'), member('b')))).toBeUndefined()
    expect(whyNotAdd(of(member('a'), member('b'), member('c', false)))).toMatchObject({ gate: 'quorum' })
    expect(whyNotAdd(of())).toMatchObject({ gate: 'quorum' })
  })

  it('lets a member go only when those that are left agree, and those that are there too', () => {
    expect(whyNotRemove(of(member('a')), 'a')).toEqual({ gate: 'last-server' })
    expect(whyNotRemove(of(member('a'), member('b'), member('c', false)), 'c')).toBeUndefined()
    expect(whyNotRemove(of(member('a'), member('b'), member('c', false)), 'a')).toMatchObject({
      gate: 'quorum-after',
    })
    // Of two one is lost: the one that is left cannot even agree to forget it.
    expect(whyNotRemove(of(member('a'), member('b', false)), 'b')).toMatchObject({ gate: 'quorum' })
    expect(whyNotRemove(of(member('a'), member('b'), member('l', true, true)), 'b')).toMatchObject({
      gate: 'learner',
    })
    expect(whyNotRemove(of(member('a'), member('l', false, true)), 'l')).toBeUndefined()
  })

  it('lets a server stop when the others agree without it, none of two, and a single one', () => {
    expect(whyNotStop(of(member('a')), 'a')).toBeUndefined()
    expect(whyNotStop(of(member('a'), member('b')), 'a')).toMatchObject({ gate: 'quorum-after' })
    expect(whyNotStop(of(member('a'), member('b'), member('c')), 'a')).toBeUndefined()
    expect(whyNotStop(of(member('a'), member('b'), member('c', false)), 'a')).toMatchObject({
      gate: 'quorum',
    })
    expect(whyNotStop(of(member('a'), member('b'), member('c', false)), 'c')).toBeUndefined()
  })

  it('holds after everything that is allowed', () => {
    const holds = (members: readonly DatastoreMember[]) => {
      const { voters, healthy } = countQuorum(members)
      return healthy >= majority(voters)
    }
    fc.assert(
      fc.property(anyMembers, fc.nat(6), (members, at) => {
        const quorum = countQuorum(members)
        const chosen = members[at % members.length]?.name ?? ''
        if (!whyNotRemove(quorum, chosen))
          expect(holds(members.filter(({ name }) => name !== chosen))).toBe(true)
        // Whether or not the new one becomes well at once, the others go on.
        if (!whyNotAdd(quorum) && quorum.voters > 1)
          expect(holds([...members, member('new', true)])).toBe(true)
        if (!whyNotStop(quorum, chosen) && quorum.voters > 1) {
          expect(holds(members.map(m => (m.name === chosen ? { ...m, healthy: false } : m)))).toBe(true)
        }
      }),
    )
  })

  it('T40: is not read from what was seen too long ago, before the last change, or by a machine that is away', () => {
    expect(readQuorum(sampleSnapshot(), NOW)).toMatchObject({
      kind: 'read',
      quorum: { voters: 3, healthy: 3 },
    })
    const late = { a: { agoMs: 90_001 }, b: { agoMs: 90_001 }, c: { agoMs: 90_001 } }
    expect(readQuorum(sampleSnapshot(late), NOW)).toEqual({ kind: 'unknown', reason: { gate: 'no-server' } })
    const settled = sampleSnapshot({}, { settledMs: NOW - 10_000 })
    expect(readQuorum(settled, NOW)).toEqual({ kind: 'unknown', reason: { gate: 'recount' } })
    const away = { a: { connected: false }, b: { connected: false }, c: { connected: false } }
    expect(readQuorum(sampleSnapshot(away), NOW)).toMatchObject({ kind: 'unknown' })
  })
})
