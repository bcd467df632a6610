import { pause } from '../../shared/lifecycle.ts'

/** Asks again and again until there is an answer. Throws with what was waited for when the time is over. */
export async function until<T>(
  what: string,
  signal: AbortSignal,
  ask: () => Promise<T | undefined> | T | undefined,
  { withinMs = 60_000, everyMs = 150 }: { readonly withinMs?: number; readonly everyMs?: number } = {},
): Promise<T> {
  const end = performance.now() + withinMs
  for (;;) {
    const answer = await ask()
    if (answer !== undefined) return answer
    if (signal.aborted) throw new Error('stopped')
    if (performance.now() > end) throw new Error(`waited ${Math.round(withinMs / 1000)} s in vain: ${what}`)
    await pause(everyMs, signal)
  }
}
