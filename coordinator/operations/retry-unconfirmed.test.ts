import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import { MOST_RETRIES, retryUnconfirmed, type TriedOperation } from './retry-unconfirmed.ts'

const NOW = 1_000_000
const { UNCONFIRMED, BUSY, SUCCEEDED } = OutcomeClass

const tried = (id: string, change: Partial<TriedOperation> = {}): TriedOperation => ({
  id,
  action: 'apply',
  outcomeClass: UNCONFIRMED,
  retryOf: '',
  ...change,
})

/** The first order and its retries so far, newest first. */
const chain = (retries: number, outcomeClass: OutcomeClass = UNCONFIRMED): TriedOperation[] =>
  Array.from({ length: retries + 1 }, (_, at) =>
    tried(`op-${at}`, { outcomeClass, retryOf: at === 0 ? '' : `op-${at - 1}` }),
  ).toReversed()

describe('retryUnconfirmed', () => {
  it.each([UNCONFIRMED, BUSY])('tries outcome %i three times, each time later, and then no more', outcome => {
    const delays = [0, 1, 2].map(retries => {
      const again = retryUnconfirmed(chain(retries, outcome), `op-${retries}`, NOW)
      expect(again).toMatchObject({ kind: 'again', attempt: retries + 1 })
      return again.kind === 'again' ? again.notBefore - NOW : 0
    })
    expect(delays.every((delay, at) => delay > (delays[at - 1] ?? 0))).toBe(true)
    expect(retryUnconfirmed(chain(3, outcome), 'op-3', NOW)).toMatchObject({
      kind: 'none',
      reason: 'it was tried again 3 times',
    })
  })

  it.each(['apply', 'rollback', 'reboot', 'hold'])('leaves it when an operator ordered %s since', action => {
    const history = [tried('later', { action, outcomeClass: 0 }), ...chain(0)]
    expect(retryUnconfirmed(history, 'op-0', NOW)).toMatchObject({
      kind: 'none',
      reason: 'operation later was ordered since',
    })
  })

  it.each(['plan', 'resume', 'retry'])('goes on when all that was ordered since is %s', action => {
    const history = [tried('later', { action, outcomeClass: SUCCEEDED }), ...chain(0)]
    expect(retryUnconfirmed(history, 'op-0', NOW).kind).toBe('again')
  })

  it.each(['plan', 'rollback', 'reboot', 'hold', 'resume', 'retry'])('tries no %s again', action => {
    expect(retryUnconfirmed([tried('op', { action })], 'op', NOW).kind).toBe('none')
  })

  it('T55: counts tries by what was ordered, never by how often an end was reported', () => {
    const history = chain(1)
    const first = retryUnconfirmed(history, 'op-1', NOW)
    for (let report = 0; report < 10; report++) {
      expect(retryUnconfirmed(history, 'op-1', NOW)).toEqual(first)
    }
  })

  it('N32: whatever happened, a chain of retries ends', () => {
    const outcomes = fc.array(fc.constantFrom(UNCONFIRMED, BUSY, SUCCEEDED, OutcomeClass.REFUSED), {
      minLength: 10,
      maxLength: 10,
    })
    fc.assert(
      fc.property(outcomes, ends => {
        let history: TriedOperation[] = []
        let retryOf = ''
        let retries = 0
        for (const [at, outcomeClass] of ends.entries()) {
          const operation = tried(`op-${at}`, { outcomeClass, retryOf })
          history = [operation, ...history]
          const verdict = retryUnconfirmed(history, operation.id, NOW + at)
          if (verdict.kind === 'none') break
          expect([UNCONFIRMED, BUSY]).toContain(outcomeClass)
          expect(verdict.notBefore).toBeGreaterThan(NOW + at)
          retryOf = operation.id
          retries += 1
        }
        expect(retries).toBeLessThanOrEqual(MOST_RETRIES)
      }),
    )
  })
})
