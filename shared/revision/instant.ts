import type { Timestamp } from '@bufbuild/protobuf/wkt'

/** Years 0001 to 9999, as the Timestamp message allows. */
const LEAST_SECONDS = -62_135_596_800n
const MOST_SECONDS = 253_402_300_799n

/** A time from a message; undefined when it is missing or out of the range that a Timestamp may have. */
export function instantOf(timestamp: Timestamp | undefined): Date | undefined {
  if (!timestamp) return undefined
  const { seconds, nanos } = timestamp
  if (seconds < LEAST_SECONDS || seconds > MOST_SECONDS || nanos < 0 || nanos > 999_999_999) return undefined
  return new Date(Number(seconds) * 1000 + Math.floor(nanos / 1_000_000))
}
