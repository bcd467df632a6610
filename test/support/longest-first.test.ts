import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { LONGEST } from './longest-first.ts'

it('the files that are begun first are there', () => {
  const missing = LONGEST.filter(name => !existsSync(join(import.meta.dirname, '../..', name)))
  expect(missing).toEqual([])
})
