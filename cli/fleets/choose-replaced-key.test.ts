import { expect, it } from 'vitest'
import { chooseReplacedKey } from './choose-replaced-key.ts'

const trusted = ['a', 'b']
const own = { path: 'fleets/1/signing.key', keyId: 'a' }

it('replaces the own key, whatever order those that sign were named in', () => {
  expect(chooseReplacedKey(own, ['a', 'b'], trusted)).toBe('a')
  expect(chooseReplacedKey(own, ['b', 'a'], trusted)).toBe('a')
})

it('replaces no key of somebody else', () => {
  expect(() => chooseReplacedKey(own, ['b'], trusted)).toThrow(
    /signing\.key \(key a\).*not among those that sign/,
  )
  expect(() => chooseReplacedKey({ ...own, keyId: 'z' }, ['z', 'b'], trusted)).toThrow(
    /no key of the trust set/,
  )
  expect(() => chooseReplacedKey({ ...own, keyId: undefined }, ['b', 'a'], trusted)).toThrow(/is not there/)
})

it('takes the one key that signs for the own one where that lies elsewhere', () => {
  expect(chooseReplacedKey({ ...own, keyId: undefined }, ['b'], trusted)).toBe('b')
})
