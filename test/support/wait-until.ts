import { setTimeout as sleep } from 'node:timers/promises'

export interface WaitOptions {
  readonly timeoutMs?: number
  readonly everyMs?: number
}

/**
 * What a look may find. `false` would be taken for something that is there, and end the wait: a look says `undefined` while there is nothing,
 * and `true` at most.
 */
export type Found<T> = T extends false ? never : T

/**
 * Looks until something is there, and returns it. A look that throws or finds undefined is repeated; at the end the error
 * says what was waited for and why the last look was not content. Works outside of tests, too.
 */
export async function waitUntil<T>(
  what: string,
  look: () => Promise<Found<T> | undefined>,
  { timeoutMs = 30_000, everyMs = 200 }: WaitOptions = {},
): Promise<T> {
  let why: unknown
  for (const until = Date.now() + timeoutMs; ; await sleep(everyMs)) {
    try {
      const found = await look()
      if (found !== undefined) return found
      why = undefined
    } catch (error) {
      why = error
    }
    if (Date.now() > until) break
  }
  const reason = why instanceof Error ? `: ${why.message}` : ''
  throw new Error(`never came within ${timeoutMs} ms: ${what}${reason}`, { cause: why })
}
