import { create } from '@bufbuild/protobuf'
import {
  type Duration,
  DurationSchema,
  type Timestamp,
  timestampDate,
  timestampFromDate,
} from '@bufbuild/protobuf/wkt'

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

/** A point in time that may be absent, in milliseconds since 1970. */
export function millisOf(timestamp: Timestamp | undefined): number | undefined {
  return timestamp && timestampDate(timestamp).getTime()
}

/** The other way round. */
export function timestampOfMillis(millis: number | null | undefined): Timestamp | undefined {
  return millis === null || millis === undefined ? undefined : timestampFromDate(new Date(millis))
}
