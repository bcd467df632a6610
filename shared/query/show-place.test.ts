import fc from 'fast-check'
import { expect, it } from 'vitest'
import { offsetOf, showPlace } from './show-place.ts'

it('shows the line of a place, and the place below it', () => {
  expect(showPlace('facts.memory.total >', 19)).toBe('  facts.memory.total >\n                     ^')
  expect(showPlace('a &&\n\tb ||\nc', offsetOf('a &&\n\tb ||\nc', 2, 4))).toBe('   b ||\n     ^')
  expect(showPlace('', 0)).toBe('  \n  ^')
  expect(showPlace('é🙂x', 3)).toBe('  é🙂x\n    ^')
})

it('shows a part of a long line, with the place in it', () => {
  const text = `${'a'.repeat(100)}!${'b'.repeat(100)}`
  const [line = '', mark = ''] = showPlace(text, 100).split('\n')
  expect(line.charAt(mark.length - 1)).toBe('!')
  expect(line).toMatch(/^ {2}…a+!b+…$/)
  expect(line.length).toBeLessThan(80)
})

it('points at the very character, whatever the text and the place', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 300 }), fc.nat(300), (text, at) => {
      const [line = '', mark = '', more] = showPlace(text, at).split('\n')
      expect(more).toBeUndefined()
      expect(mark.trimStart()).toBe('^')
      const pointed = [...line][mark.length - 1]
      const meant = [...text.slice(Math.min(at, text.length))][0]
      if (meant !== undefined && !/[\n\t]/.test(meant)) expect(pointed).toBe(meant)
    }),
  )
})
