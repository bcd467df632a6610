import { create } from '@bufbuild/protobuf'
import { DurationSchema, TimestampSchema, timestampFromDate } from '@bufbuild/protobuf/wkt'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { durationFromMs, instantOf, millisOf, msFromDuration } from './time.ts'

describe('durations', () => {
  it('come back as they were, also below zero', () => {
    fc.assert(
      fc.property(fc.integer({ min: -1e14, max: 1e14 }), ms => {
        const duration = durationFromMs(ms)
        expect(msFromDuration(duration)).toBe(ms)
        // The message wants both parts to have one sign.
        expect(Number(duration.seconds) * duration.nanos).toBeGreaterThanOrEqual(0)
        expect(Math.abs(duration.nanos)).toBeLessThan(1_000_000_000)
      }),
    )
  })

  it('drop what is less than a millisecond', () => {
    expect(msFromDuration(create(DurationSchema, { seconds: 1n, nanos: 999_999 }))).toBe(1_000)
  })
})

describe('points in time', () => {
  it('come back as they were', () => {
    const time = fc.date({ min: new Date('0001-01-01'), max: new Date('9999-12-31'), noInvalidDate: true })
    fc.assert(
      fc.property(time, date => {
        expect(instantOf(timestampFromDate(date))).toEqual(date)
        expect(millisOf(timestampFromDate(date))).toBe(date.getTime())
      }),
    )
  })

  it.each([
    undefined,
    create(TimestampSchema, { seconds: -62_135_596_801n }),
    create(TimestampSchema, { seconds: 253_402_300_800n }),
    create(TimestampSchema, { nanos: -1 }),
    create(TimestampSchema, { nanos: 1_000_000_000 }),
  ])('are missing when they are none: %o', timestamp => {
    expect(instantOf(timestamp)).toBeUndefined()
    expect(millisOf(timestamp)).toBeUndefined()
  })
})
