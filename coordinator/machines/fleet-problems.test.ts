import { expect, it } from 'vitest'
import { type FleetHealth, fleetProblems, goneAuthorities } from './fleet-problems.ts'

const now = new Date('2026-06-01T00:00:00Z')
const authority = (pin: string, issuing = true) => ({
  pin,
  issuing,
  notAfter: new Date('2036-01-01T00:00:00Z'),
})
const health: FleetHealth = {
  trustNumber: 3,
  authorities: [authority('b')],
  caPins: ['b'],
  revision: undefined,
  ambiguous: [],
  contested: [],
  pending: 0,
  maxPending: 10,
}

it('a rotation that ended half way is told with its cure: machines trust what the newest set lists', () => {
  expect([...fleetProblems(health, now), ...goneAuthorities(health)]).toEqual([])
  expect(goneAuthorities({ ...health, caPins: ['a', 'b'] })).toEqual([
    'trust set 3 lists the authority a, which is gone here: machines trust it still; take it out with `muster trust rotate ca drop`',
  ])
  expect(
    fleetProblems(
      { ...health, authorities: [authority('a', false), authority('b')], caPins: ['a', 'b'] },
      now,
    ),
  ).toEqual(['the replacement of the authority is not complete: go on with `muster trust rotate`'])
  // Without a list machines keep to what they were given.
  expect(fleetProblems({ ...health, caPins: [] }, now)).toEqual([])
  expect(goneAuthorities({ ...health, caPins: [] })).toEqual([])
})
