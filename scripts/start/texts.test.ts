import { spawnSync } from 'node:child_process'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { alreadyRunningText, quoted } from './texts.ts'

test('what is quoted comes out of a shell as it was', () => {
  const texts = fc.array(
    fc.string({ minLength: 1 }).filter(text => !text.includes('\0')),
    { minLength: 20, maxLength: 20 },
  )
  fc.assert(
    fc.property(texts, all => {
      const { stdout } = spawnSync('sh', ['-c', `printf '%s\\0' ${all.map(quoted).join(' ')}`], {
        encoding: 'utf8',
      })
      expect(stdout.split('\0').slice(0, -1)).toEqual(all)
    }),
    { numRuns: 20 },
  )
})

test('a start that has not got so far yet is said to be starting, not to run', () => {
  expect(alreadyRunningText('/s', {}, 'in use by process 5')).toBe(
    'Muster is being started here already: in use by process 5\n',
  )
})
