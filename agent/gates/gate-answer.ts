/**
 * What one look at a gate gave. Three answers: a probe that could not be asked says nothing about what it asks for, so
 * unavailable is neither healthy nor unhealthy.
 */
export interface GateAnswer {
  /** The gate's name. */
  readonly gate: string
  readonly verdict: 'healthy' | 'unhealthy' | 'unavailable'
  /** Why, in one line, for people. */
  readonly reason: string
  /** What the probe saw, such as what a script printed: at most 4 KiB, beginning and end. */
  readonly output: string
  /** Milliseconds on the clock of whoever asked, which is never set; the answer is about a moment between the two. */
  readonly startedAtMs: number
  readonly endedAtMs: number
}

export type Verdict = GateAnswer['verdict']

/** What a probe finds out; when and for which gate is added by who runs it. */
export interface Finding {
  readonly verdict: Verdict
  readonly reason: string
  readonly output?: string | undefined
}

export const MAX_OUTPUT_BYTES = 4 * 1024
