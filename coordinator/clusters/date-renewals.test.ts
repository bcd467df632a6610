import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { NodeObject, ServerView } from './cluster-snapshot.ts'
import { dateRenewals, withoutRenewals } from './date-renewals.ts'

const viewOf = (renewedMs: number | undefined, change: Partial<NodeObject> = {}): ServerView => ({
  ready: true,
  members: [],
  nodes: [{ name: 'n4', uid: 'u', ready: true, version: '1.34.3', renewedMs, ...change }],
})

const shownAfter = (view: ServerView): number | undefined => view.nodes[0]?.renewedAfterMs

describe('T40: a renewal', () => {
  it('was after the question whose answer still showed another one', () => {
    const first = dateRenewals(viewOf(7), undefined)
    expect(shownAfter(first)).toBeUndefined()
    const second = dateRenewals(viewOf(7), { asOfMs: 100, view: first })
    expect(shownAfter(second)).toBeUndefined()
    const third = dateRenewals(viewOf(9), { asOfMs: 200, view: second })
    expect(shownAfter(third)).toBe(200)
    const fourth = dateRenewals(viewOf(9), { asOfMs: 300, view: third })
    expect(shownAfter(fourth)).toBe(200)
    // A clock that was set back has renewed all the same.
    expect(shownAfter(dateRenewals(viewOf(2), { asOfMs: 400, view: fourth }))).toBe(400)
  })

  it('of a Node that was made anew, or that the answer before did not show, is of any time', () => {
    const before = { asOfMs: 100, view: viewOf(7, { uid: 'old' }) }
    expect(shownAfter(dateRenewals(viewOf(9), before))).toBeUndefined()
    expect(shownAfter(dateRenewals(viewOf(9), { asOfMs: 100, view: undefined }))).toBeUndefined()
    expect(shownAfter(dateRenewals(viewOf(undefined), { asOfMs: 100, view: viewOf(7) }))).toBeUndefined()
  })

  it('is never said to be after an instant that it was before', () => {
    // When the lease was renewed, and when the server was asked; each answer shows what was so somewhat later.
    const steps = fc.array(fc.tuple(fc.nat(20), fc.nat(20), fc.nat(5)), { minLength: 2, maxLength: 20 })
    fc.assert(
      fc.property(steps, fc.integer({ min: -500, max: 500 }), (rounds, clockMs) => {
        let nowMs = 0
        let renewedMs = 0
        let before: { asOfMs: number; view: ServerView } | undefined
        for (const [waitMs, isRenewed, delayMs] of rounds) {
          const asOfMs = nowMs
          if (isRenewed % 2 === 0) renewedMs = nowMs + delayMs
          nowMs += delayMs
          const view = dateRenewals(viewOf(renewedMs + clockMs), before)
          expect(shownAfter(view) ?? Number.NEGATIVE_INFINITY).toBeLessThanOrEqual(renewedMs)
          before = { asOfMs, view }
          nowMs += 1 + waitMs
        }
      }),
    )
  })

  it('alone is no news', () => {
    expect(withoutRenewals(viewOf(7, { renewedAfterMs: 5 }))).toEqual(withoutRenewals(viewOf(9)))
    expect(withoutRenewals(viewOf(7))).not.toEqual(withoutRenewals(viewOf(7, { ready: false })))
  })
})
