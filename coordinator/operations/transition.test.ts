import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import { isPending, type OperationInput, type OperationState, SILENCE_MS, transition } from './transition.ts'

const EXPIRES = 100_000
const fresh: OperationState = {
  expires: EXPIRES,
  delivered: undefined,
  phase: 0,
  outcomeClass: 0,
  notBefore: 0,
  confirmed: undefined,
}

const inputs: fc.Arbitrary<{ input: OperationInput; after: number }> = fc.record({
  input: fc.oneof(
    fc.constant<OperationInput>({ kind: 'clock' }),
    fc.constant<OperationInput>({ kind: 'delivered' }),
    fc.constant<OperationInput>({ kind: 'abandoned', reason: 'evicted' }),
    fc.constant<OperationInput>({ kind: 'confirmed' }),
    fc.constant<OperationInput>({ kind: 'superseded', reason: 'something else was ordered' }),
    fc.record({
      kind: fc.constant('report' as const),
      phase: fc.integer({ min: 1, max: 15 }),
      outcomeClass: fc.integer({ min: 0, max: 12 }),
    }),
  ),
  after: fc.integer({ min: 0, max: SILENCE_MS }),
})

/** All states an operation goes through, with the time of each. */
function walk(steps: readonly { input: OperationInput; after: number }[]) {
  let state = fresh
  let now = 0
  return steps.map(({ input, after }) => {
    now += after
    const before = state
    const result = transition(state, input, now)
    if (result.kind === 'next') state = result.state
    return { before, state, now, input, result }
  })
}

describe('an operation’s transitions', () => {
  it('N12: an outcome is final, whatever arrives and however late', () => {
    fc.assert(
      fc.property(fc.array(inputs, { maxLength: 30 }), steps => {
        for (const { before, state } of walk(steps)) {
          if (before.outcomeClass !== 0) expect(state).toEqual(before)
        }
      }),
    )
  })

  it('N12: an order that expired undelivered ends as refused even when a report arrives with the expiry', () => {
    fc.assert(
      fc.property(inputs, fc.integer({ min: 0, max: 10 * SILENCE_MS }), ({ input }, late) => {
        const result = transition(fresh, input, EXPIRES + late)
        expect(result).toMatchObject({
          kind: 'next',
          state: { outcomeClass: OutcomeClass.REFUSED },
          givenUp: { refusal: 'expired' },
        })
      }),
    )
  })

  it('phases only go forward, the delivery is written once, and success comes from a report alone', () => {
    fc.assert(
      fc.property(fc.array(inputs, { maxLength: 30 }), steps => {
        for (const { before, state, input } of walk(steps)) {
          expect(state.phase).toBeGreaterThanOrEqual(before.phase)
          if (before.delivered !== undefined) expect(state.delivered).toBe(before.delivered)
          if (before.confirmed !== undefined) expect(state.confirmed).toBe(before.confirmed)
          if (state.outcomeClass === OutcomeClass.SUCCEEDED && before.outcomeClass === 0) {
            expect(input.kind).toBe('report')
          }
        }
      }),
    )
  })

  it('T54: every order that its node never speaks of ends by the clock, so none is stuck', () => {
    fc.assert(
      fc.property(fc.boolean(), delivered => {
        const state = delivered ? { ...fresh, delivered: 5 } : fresh
        expect(isPending(state, EXPIRES - 1)).toBe(true)
        expect(isPending(state, EXPIRES)).toBe(false)
        const end = transition(state, { kind: 'clock' }, EXPIRES + SILENCE_MS)
        expect(end).toMatchObject({
          kind: 'next',
          givenUp: { class: delivered ? OutcomeClass.UNKNOWN : OutcomeClass.REFUSED },
        })
      }),
    )
  })

  it('an operation whose machine was sent away ends as unknown, whatever it was doing', () => {
    const end = transition({ ...fresh, delivered: 5, phase: 4 }, { kind: 'abandoned', reason: 'evicted' }, 10)
    expect(end).toMatchObject({
      state: { outcomeClass: OutcomeClass.UNKNOWN, phase: 4 },
      givenUp: { reason: 'evicted' },
    })
  })

  it('N12: what has ended, by whatever, is never confirmed afterwards', () => {
    fc.assert(
      fc.property(fc.array(inputs, { maxLength: 30 }), fc.nat(10 * SILENCE_MS), (steps, later) => {
        const last = walk(steps).at(-1)
        const state = last?.state ?? fresh
        const now = (last?.now ?? 0) + later
        const moved = transition(state, { kind: 'confirmed' }, now)
        const after = moved.kind === 'next' ? moved.state : state
        if (after.outcomeClass !== 0) expect(after.confirmed).toBe(state.confirmed)
        else expect(after.confirmed).toBeDefined()
      }),
    )
  })

  it('an order gives way to a newer one only while nobody was sent it', () => {
    const input: OperationInput = { kind: 'superseded', reason: 'else' }
    expect(transition(fresh, input, 5)).toMatchObject({
      givenUp: { class: OutcomeClass.REFUSED, refusal: 'superseded' },
    })
    for (const sent of [{ delivered: 4 }, { phase: 1 }]) {
      expect(transition({ ...fresh, ...sent }, input, 5).kind).toBe('same')
    }
  })

  it('an order that is to wait is pending only when its time has come', () => {
    const later = { ...fresh, notBefore: 1_000 }
    expect(isPending(later, 999)).toBe(false)
    expect(isPending(later, 1_000)).toBe(true)
    expect(isPending(later, EXPIRES)).toBe(false)
  })

  it('an operation that its node works on is not ended by any clock', () => {
    const running = { ...fresh, delivered: 5, phase: 4 }
    expect(transition(running, { kind: 'clock' }, EXPIRES * 1000)).toEqual({ kind: 'same', late: false })
    expect(isPending(running, 10)).toBe(false)
  })
})
