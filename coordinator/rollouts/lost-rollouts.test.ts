import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type LostRollout, textOfLost, withClaim } from './lost-rollouts.ts'

const claims = fc.array(
  fc.record({
    claim: fc.record({
      id: fc.nat({ max: 80 }).map(number => `r${number}`),
      action: fc.constantFrom('apply', 'reboot'),
      revision: fc.nat({ max: 3 }),
      host: fc.constant(''),
    }),
    host: fc.nat({ max: 150 }).map(number => `n${number}`),
  }),
  { maxLength: 400 },
)

describe('rollouts that the store has lost', () => {
  it('are each named once with every host that tells of them, and their list is bounded whatever nodes say', () => {
    fc.assert(
      fc.property(claims, all => {
        let lost: readonly LostRollout[] = []
        all.forEach(({ claim, host }, at) => {
          const before = lost
          lost = withClaim(lost, claim, host, at)
          const kept = lost.find(({ id }) => id === claim.id)
          expect(
            kept === undefined ? lost.length === 50 : kept.hosts.includes(host) || kept.hosts.length === 100,
          ).toBe(true)
          // What is said again is nothing new, and nothing that was said is lost.
          expect(withClaim(lost, claim, host, at + 1)).toBe(lost)
          for (const one of before) expect(lost.find(({ id }) => id === one.id)?.sinceMs).toBe(one.sinceMs)
        })
        expect(new Set(lost.map(({ id }) => id)).size).toBe(lost.length)
        for (const { hosts } of lost) expect(new Set(hosts).size).toBe(hosts.length)
      }),
      { numRuns: 50 },
    )
  })

  it('are told in a sentence', () => {
    const lost = { id: 'r1', action: 'apply', revision: 7, hosts: ['a', 'b'], sinceMs: 0 }
    expect(textOfLost(lost)).toBe('rollout r1 (apply revision 7) is not in the store: a, b had orders of it')
    const many = Array.from({ length: 12 }, (_, index) => `n${index}`)
    expect(textOfLost({ ...lost, action: 'reboot', revision: 0, hosts: many })).toMatch(
      /^rollout r1 \(reboot\) .* n9 and 2 more had orders of it$/,
    )
  })
})
