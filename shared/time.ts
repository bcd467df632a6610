import { create } from '@bufbuild/protobuf'
import { type Duration, DurationSchema, type Timestamp } from '@bufbuild/protobuf/wkt'

/** Years 0001 to 9999, as the Timestamp message allows. */
const LEAST_SECONDS = -62_135_596_800n
const MOST_SECONDS = 253_402_300_799n

/** Milliseconds as a Duration. */
export function durationFromMs(ms: number): Duration {
  return create(DurationSchema, {
    seconds: BigInt(Math.trunc(ms / 1000)),
    nanos: Math.trunc(ms % 1000) * 1_000_000,
  })
}

/** A Duration in milliseconds. */
export function msFromDuration(duration: Duration): number {
  return Number(duration.seconds) * 1000 + Math.trunc(duration.nanos / 1_000_000)
}

/** A time from a message; undefined when it is missing or out of the range that a Timestamp may have. */
export function instantOf(timestamp: Timestamp | undefined): Date | undefined {
  if (!timestamp) return undefined
  const { seconds, nanos } = timestamp
  if (seconds < LEAST_SECONDS || seconds > MOST_SECONDS || nanos < 0 || nanos > 999_999_999) return undefined
  return new Date(Number(seconds) * 1000 + Math.floor(nanos / 1_000_000))
}

/** The same in milliseconds since 1970. */
export function millisOf(timestamp: Timestamp | undefined): number | undefined {
  return instantOf(timestamp)?.getTime()
}
