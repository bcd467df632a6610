import { expect, it } from 'vitest'
import { hasCode, reasonOf } from './errors.ts'

it('tells the reasons of several failures where they say nothing together', () => {
  const refused = (address: string) => new Error(`connect ECONNREFUSED ${address}`)
  const both = new AggregateError([refused('::1:6443'), refused('127.0.0.1:6443')])
  expect(reasonOf(both)).toBe('connect ECONNREFUSED ::1:6443; connect ECONNREFUSED 127.0.0.1:6443')
  expect(reasonOf(new AggregateError([refused('::1')], 'two went wrong'))).toBe('two went wrong')
  expect([reasonOf(new Error('x')), reasonOf('y')]).toEqual(['x', 'y'])
})

it('knows an error by its code', () => {
  expect(hasCode(Object.assign(new Error('x'), { code: 'ENOENT' }), 'ENOENT')).toBe(true)
  expect(hasCode({ code: 'ENOENT' }, 'ENOENT')).toBe(false)
})
