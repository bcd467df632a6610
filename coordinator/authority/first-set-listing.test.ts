import { create } from '@bufbuild/protobuf'
import { expect, it } from 'vitest'
import { TrustSetSchema } from '../../shared/gen/muster/v1/trust_pb.ts'
import { firstSetListing } from './first-set-listing.ts'

const sets = (...pins: string[][]) =>
  pins.map((caPins, at) => ({ number: at + 1, set: create(TrustSetSchema, { caPins }) }))

it('is the oldest set from which on all list the authority', () => {
  expect(firstSetListing(sets(['a'], ['a', 'b'], ['a', 'b']), 'b')).toBe(2)
  expect(firstSetListing(sets(['a', 'b'], ['a'], ['a', 'b']), 'b')).toBe(3)
  expect(firstSetListing(sets(['a'], ['a', 'b']), 'a')).toBe(1)
})

it('is none where the newest leaves that to the machines, or lists others', () => {
  expect(firstSetListing(sets(['a', 'b'], []), 'b')).toBeUndefined()
  expect(firstSetListing(sets(['a']), 'b')).toBeUndefined()
  expect(firstSetListing([], 'b')).toBeUndefined()
})
