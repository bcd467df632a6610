import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { commonProtocol, PROTOCOL_MAX, PROTOCOL_MIN, VERSION } from './version.ts'

describe('the version of the programs', () => {
  it('is the one of package.json and of the lock file', () => {
    for (const name of ['package.json', 'package-lock.json']) {
      const { version } = JSON.parse(readFileSync(join(import.meta.dirname, '..', name), 'utf8'))
      expect(version, name).toBe(VERSION)
    }
  })
})

describe('the protocol of two sides', () => {
  it('is the highest that both speak, and none where they speak none in common', () => {
    const version = fc.integer({ min: 0, max: PROTOCOL_MAX + 3 })
    fc.assert(
      fc.property(version, version, (min, max) => {
        const both = Array.from({ length: PROTOCOL_MAX + 4 }, (_, number) => number).filter(
          number => number >= min && number <= max && number >= PROTOCOL_MIN && number <= PROTOCOL_MAX,
        )
        expect(commonProtocol(min, max)).toBe(both.at(-1))
      }),
    )
  })
})
