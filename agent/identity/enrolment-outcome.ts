import { backoffMs, jittered } from '../../shared/retry.ts'

/** How one attempt to enrol ended. */
export type EnrolmentOutcome =
  | { readonly kind: 'admitted' }
  /** The coordinator knows this machine and waits for an operator. */
  | {
      readonly kind: 'waiting'
      readonly reason: string
      readonly command: string
      readonly retryAfterMs: number
    }
  /** The coordinator said no. */
  | {
      readonly kind: 'refused'
      readonly class: string
      readonly reason: string
      /** What an operator types so that asking again may succeed; empty: nothing, or an older coordinator does not say. */
      readonly command: string
      readonly retry: boolean
      readonly retryAfterMs: number
    }
  /** The coordinator is not there, still starts, or has too much to do: never a reason to give up. */
  | { readonly kind: 'away'; readonly reason: string }
  /** This machine itself will not go on, for instance because it does not believe the other side. */
  | { readonly kind: 'failed'; readonly class: string; readonly reason: string }

/** How long to wait before the next attempt. `attempt` counts the attempts since the last sign of progress, from 0. */
export function waitAfter(
  outcome: Exclude<EnrolmentOutcome, { kind: 'admitted' }>,
  attempt: number,
  retry: { readonly firstMs: number; readonly mostMs: number },
): number {
  const backedOff = backoffMs(attempt, retry)
  switch (outcome.kind) {
    case 'waiting':
      // Whoever waits for a person asks in an even rhythm.
      return outcome.retryAfterMs > 0 ? jittered(Math.min(outcome.retryAfterMs, retry.mostMs)) : backedOff
    case 'refused':
      return Math.max(backedOff, Math.min(outcome.retryAfterMs, retry.mostMs))
    case 'away':
    case 'failed':
      return backedOff
  }
}

/**
 * Whether to show the token. A machine that was enrolled before comes back by its key and keeps the token for when that is
 * not enough (an evicted one needs a newer token). A token that was refused is not shown again: the machine then waits
 * where an operator can see it.
 */
export function showsToken(input: {
  readonly hasToken: boolean
  readonly tokenRefused: boolean
  readonly enrolledBefore: boolean
  readonly keyWasNotEnough: boolean
}): boolean {
  if (!input.hasToken || input.tokenRefused) return false
  return !input.enrolledBefore || input.keyWasNotEnough
}
