import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { OutcomeClass } from '../shared/gen/muster/v1/operation_pb.ts'
import { exitCodes } from './exit-codes.ts'
import { exitForOutcomes, isGood } from './outcome-exit.ts'

const { SUCCEEDED, DEGRADED, REBOOT_REQUIRED, REFUSED, BUSY, BUILD_FAILED, ROLLED_BACK, UNKNOWN } =
  OutcomeClass
const anyOutcome = fc.constantFrom(...Object.values(OutcomeClass))

describe('exitForOutcomes', () => {
  it.each([
    [[SUCCEEDED, SUCCEEDED], 'ok'],
    [[SUCCEEDED, DEGRADED], 'degraded'],
    [[DEGRADED, REBOOT_REQUIRED], 'rebootRequired'],
    [[REFUSED, BUSY], 'refused'],
    [[REFUSED, BUILD_FAILED], 'failed'],
    [[ROLLED_BACK], 'failed'],
    [[UNKNOWN, REFUSED], 'unknown'],
    [[SUCCEEDED, UNKNOWN], 'partial'],
  ] as const)('says for %j %s', (outcomes, exit) => {
    expect(exitForOutcomes(outcomes)).toBe(exit)
  })

  it('ends with 0 only when every node succeeded', () => {
    fc.assert(
      fc.property(fc.array(anyOutcome, { minLength: 1, maxLength: 8 }), outcomes => {
        const zero = exitCodes[exitForOutcomes(outcomes)].code === 0
        expect(zero).toBe(outcomes.every(outcome => outcome === SUCCEEDED))
      }),
    )
  })

  it('says partial exactly when some got there and others did not, whatever the order', () => {
    fc.assert(
      fc.property(fc.array(anyOutcome, { minLength: 1, maxLength: 8 }), outcomes => {
        const exit = exitForOutcomes(outcomes)
        expect(exit === 'partial').toBe(outcomes.some(isGood) && !outcomes.every(isGood))
        expect(exitForOutcomes(outcomes.toReversed())).toBe(exit)
      }),
    )
  })
})
