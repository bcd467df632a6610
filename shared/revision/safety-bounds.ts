const SECOND_MS = 1_000
const MINUTE_MS = 60 * SECOND_MS
const HOUR_MS = 60 * MINUTE_MS

/** What holds where a target says nothing. The only place that knows. */
export const SAFETY_DEFAULTS = {
  soakMs: 30 * SECOND_MS,
  confirmWithinMs: 5 * MINUTE_MS,
  gateDeadlineMs: 10 * SECOND_MS,
  /** A Job's image may have to be pulled first. */
  jobDeadlineMs: 2 * MINUTE_MS,
} as const

/** What the settings of safety may be, least and most. */
export const SAFETY_BOUNDS = {
  soakMs: { least: 0, most: HOUR_MS },
  confirmWithinMs: { least: 5 * SECOND_MS, most: 6 * HOUR_MS },
  gateDeadlineMs: { least: SECOND_MS, most: 10 * MINUTE_MS },
  /** A host that was drained is given back when it waits for five minutes: whatever it waits for has answered by then. */
  jobDeadlineMs: { least: SECOND_MS, most: 4 * MINUTE_MS },
} as const

/** What the confirm time must exceed the soak time by: a change is asked about before and answered for after it. */
export const LEAST_CONFIRM_MARGIN_MS = 5 * SECOND_MS

export const MAX_GATES = 64
/** Jobs that one cluster has as gates. */
export const MAX_JOB_GATES = 16
/** Of the file that holds such a Job. */
export const MAX_GATE_JOB_BYTES = 256 * 1024
export const MAX_GATE_UNITS = 64
export const MAX_TOLERATED_UNITS = 64
export const MAX_REACH_HOSTS = 16
export const MAX_SCRIPT_ARGUMENTS = 32
export const MAX_ARGUMENT_CHARS = 1_024
export const MAX_CONTAINS_CHARS = 1_024
export const MAX_URL_CHARS = 2_048
export const MAX_FREE_BYTES = 2 ** 50
/** Of the settings of one host together, as they are sent: half of what a target may have. */
export const MAX_SAFETY_BYTES = 32 * 1024
