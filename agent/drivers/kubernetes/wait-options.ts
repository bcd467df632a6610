export interface WaitOptions {
  readonly deadlineMs: number
  readonly signal?: AbortSignal | undefined
  /** Between two looks. Absent: 2 s. */
  readonly everyMs?: number | undefined
}

export const LOOK_EVERY_MS = 2_000
