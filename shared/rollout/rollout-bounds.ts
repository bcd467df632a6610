const SECOND_MS = 1_000
const MINUTE_MS = 60 * SECOND_MS
const HOUR_MS = 60 * MINUTE_MS
const DAY_MS = 24 * HOUR_MS

export const failurePolicies = ['stop', 'continue', 'revert'] as const
export type FailurePolicy = (typeof failurePolicies)[number]

/** What holds where the fleet file says nothing. The only place that knows. */
export const ROLLOUT_DEFAULTS = {
  maxUnavailable: '10%',
  soakMs: MINUTE_MS,
  onFailure: 'stop',
  silentPercent: 30,
  drainLimitMs: 5 * MINUTE_MS,
} as const

export const ROLLOUT_BOUNDS = {
  soakMs: { least: 0, most: 7 * DAY_MS },
  drainLimitMs: { least: SECOND_MS, most: DAY_MS },
  maxFailures: { least: 1, most: 10_000 },
  silentPercent: { least: 1, most: 100 },
} as const

export const MAX_CANARIES = 100
export const MAX_WINDOWS = 16
export const MAX_AFTER = 100
export const MAX_FOLLOWS = 100

/** When the gates of a host are asked besides after its changes. */
export const gateAskings = ['never', 'before-each-step'] as const
