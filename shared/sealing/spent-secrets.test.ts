import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { sha256Hex } from '../ids.ts'
import { MAX_SPENT, readSpent, type SpentSecrets, spendSecret, writeSpent } from './spent-secrets.ts'

const DAY = 24 * 3_600_000
const digest = (n: number) => sha256Hex(String(n))

describe('the set of spent secrets', () => {
  it('T2: knows every secret until it could not pass any more, also by a clock set back a day', () => {
    fc.assert(
      fc.property(fc.array(fc.record({ n: fc.nat(30), after: fc.nat(DAY) }), { maxLength: 60 }), steps => {
        let spent: SpentSecrets = new Map()
        let now = 0
        const until = new Map<string, number>()
        for (const { n, after } of steps) {
          now += after
          const secret = { digest: digest(n), expiresMs: now + 600_000 }
          const result = spendSecret(spent, secret, now)
          if (result.kind === 'spent') {
            spent = result.spent
            until.set(secret.digest, secret.expiresMs)
          }
          for (const [known, expiresMs] of until)
            if (expiresMs + DAY > now) expect(spent.has(known)).toBe(true)
        }
      }),
    )
  })

  it('takes no more than it can remember, and forgets what is long over', () => {
    let spent: SpentSecrets = new Map()
    for (let n = 0; n < MAX_SPENT; n += 1) {
      const result = spendSecret(spent, { digest: digest(n), expiresMs: 1000 }, 0)
      if (result.kind === 'spent') spent = result.spent
    }
    const next = { digest: digest(MAX_SPENT), expiresMs: 2 * DAY }
    expect(spendSecret(spent, next, 0).kind).toBe('full')
    const later = spendSecret(spent, next, 1000 + DAY)
    expect(later.kind === 'spent' && [...later.spent.keys()]).toEqual([next.digest])
  })

  it('comes back from its file, and is no empty set when that is damaged', () => {
    const spent: SpentSecrets = new Map([[digest(1), 5]])
    expect(readSpent(writeSpent(spent))).toEqual(spent)
    for (const text of [
      '',
      '{}',
      '{"spent":[]}',
      '{"spent":{"x":1}}',
      `{"spent":{"${digest(1)}":"1"}}`,
      'null',
    ]) {
      expect(readSpent(text)).toBeUndefined()
    }
  })
})
