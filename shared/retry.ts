import { randomInt } from 'node:crypto'

/** Exponential back-off with full jitter: how long to wait before try number `attempt` (from 0), in milliseconds. */
export function backoffMs(
  attempt: number,
  options: { readonly firstMs: number; readonly mostMs: number },
  random: (below: number) => number = below => randomInt(below),
): number {
  const ceiling = Math.min(options.mostMs, options.firstMs * 2 ** Math.min(attempt, 30))
  return Math.floor(ceiling / 2) + random(Math.max(1, Math.ceil(ceiling / 2)))
}

/** A value spread by up to `share` in both directions, so that a fleet does not beat in step. */
export function jittered(ms: number, share = 0.2): number {
  const spread = Math.floor(ms * share)
  return spread < 1 ? ms : ms - spread + randomInt(2 * spread)
}
