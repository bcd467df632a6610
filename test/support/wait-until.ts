import { setTimeout as sleep } from 'node:timers/promises'

export interface WaitOptions {
  readonly timeoutMs?: number
  readonly everyMs?: number
}

/**
 * Looks until something is there, and returns it. A look that throws or finds undefined is repeated; at the end the error
 * says what was waited for and why the last look was not content. Works outside of tests, too.
 */
export async function waitUntil<T>(
  what: string,
  look: () => Promise<T | undefined>,
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
