import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  addPin,
  dropPin,
  MAX_AUTHORITIES,
  type Rotation,
  rotationFault,
  shownPin,
  switchToPin,
} from './rotation.ts'

const pins = ['a', 'b', 'c', 'd', 'e', 'f']
const step = fc.record({ verb: fc.constantFrom('add', 'switchTo', 'drop'), pin: fc.constantFrom(...pins) })

function take(rotation: Rotation, { verb, pin }: { verb: string; pin: string }) {
  if (verb === 'add') return addPin(rotation, pin)
  return verb === 'drop' ? dropPin(rotation, pin) : switchToPin(rotation, pin)
}

describe('rotation', () => {
  it('never loses the issuing authority, never grows beyond its bound, and shows the oldest, whatever is asked', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), steps => {
        let rotation: Rotation = { trusted: ['a'], issuing: 'a' }
        for (const asked of steps) {
          const result = take(rotation, asked)
          if (!result.ok) {
            expect(result.reason).toContain(
              asked.verb === 'add' && rotation.trusted.length >= MAX_AUTHORITIES ? '' : asked.pin,
            )
            continue
          }
          const before = rotation
          rotation = result.rotation
          expect(rotationFault(rotation)).toBeUndefined()
          expect(shownPin(rotation)).toBe(rotation.trusted[0])
          // What the listeners show changes by a drop of just that authority, by nothing else.
          if (shownPin(rotation) !== shownPin(before))
            expect(asked).toEqual({ verb: 'drop', pin: shownPin(before) })
        }
      }),
    )
  })

  it('refuses to drop the one that issues, and to switch to one that is not there', () => {
    const rotation = { trusted: ['a', 'b'], issuing: 'b' }
    expect(dropPin(rotation, 'b')).toMatchObject({ ok: false })
    expect(dropPin(rotation, 'a')).toEqual({ ok: true, rotation: { trusted: ['b'], issuing: 'b' } })
    expect(switchToPin(rotation, 'c')).toMatchObject({ ok: false })
  })

  it('names what is wrong with a state that was read', () => {
    expect(rotationFault({ trusted: [], issuing: 'a' })).toContain('0 authorities')
    expect(rotationFault({ trusted: ['a', 'a'], issuing: 'a' })).toContain('twice')
    expect(rotationFault({ trusted: ['a'], issuing: 'b' })).toContain('b issues')
    expect(rotationFault({ trusted: ['a'], issuing: 'a' })).toBeUndefined()
  })
})
