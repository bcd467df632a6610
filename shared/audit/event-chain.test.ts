import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ChainCheck, type ChainedEvent, hashEvent } from './event-chain.ts'

const text = fc.string({ unit: 'grapheme', maxLength: 20 })
const bodies = fc.array(
  fc.record({ class: text, machine: text, host: text, reason: text, actor: text, at: fc.nat() }),
  { minLength: 3, maxLength: 30 },
)

function chain(events: readonly Omit<ChainedEvent, 'id' | 'previous' | 'hash'>[]): ChainedEvent[] {
  const made: ChainedEvent[] = []
  for (const [index, event] of events.entries()) {
    const link = { ...event, id: index + 1, previous: made.at(-1)?.hash ?? '' }
    made.push({ ...link, hash: hashEvent(link) })
  }
  return made
}

function checked(events: readonly ChainedEvent[]): ChainCheck {
  const check = new ChainCheck()
  for (const event of events) check.add(event)
  return check
}

describe('the chain of events', () => {
  it('is whole as it was written, and from any event on that is still kept', () => {
    fc.assert(
      fc.property(bodies, fc.nat(), (events, from) => {
        const whole = chain(events)
        const kept = whole.slice(from % whole.length)
        const check = checked(kept)
        expect(check.problems).toEqual([])
        for (const { id, hash } of kept) expect(check.compare({ id, hash })).toEqual({ kind: 'agrees' })
        for (const { id, hash } of whole.slice(0, whole.length - kept.length)) {
          expect(check.compare({ id, hash }).kind).toBe('older')
        }
      }),
    )
  })

  it('shows any change of an event, and any event that is gone from its middle', () => {
    const fields = ['class', 'machine', 'host', 'reason', 'actor'] as const
    fc.assert(
      fc.property(bodies, fc.nat(), fc.constantFrom(...fields), (events, at, field) => {
        const whole = chain(events)
        const index = at % whole.length
        const changed = whole.map((event, i) =>
          i === index ? { ...event, [field]: `${event[field]}!` } : event,
        )
        expect(checked(changed).problems).not.toEqual([])
        const middle = 1 + (at % (whole.length - 2))
        expect(checked(whole.toSpliced(middle, 1)).problems).not.toEqual([])
      }),
    )
  })

  it('that was cut at its end, or hashed anew after a change, disagrees with every link shown before', () => {
    fc.assert(
      fc.property(bodies, fc.nat(), (events, at) => {
        const whole = chain(events)
        const index = at % whole.length
        const anew = checked(
          chain(events.map((event, i) => (i === index ? { ...event, reason: `${event.reason}!` } : event))),
        )
        expect(anew.problems).toEqual([])
        for (const { id, hash } of whole.slice(index)) expect(anew.compare({ id, hash }).kind).toBe('differs')
        const cut = checked(whole.slice(0, -1))
        const last = whole.at(-1)
        expect(last && cut.compare(last).kind).toBe('missing')
      }),
    )
  })

  it('knows the link before the oldest event that is kept by its hash', () => {
    const whole = chain(
      [1, 2, 3].map(at => ({ at, class: 'x', machine: '', host: '', reason: '', actor: '' })),
    )
    const check = checked(whole.slice(1))
    expect(check.compare({ id: 1, hash: whole[0]?.hash ?? '' }).kind).toBe('older')
    expect(check.compare({ id: 1, hash: 'f'.repeat(64) }).kind).toBe('differs')
  })
})
