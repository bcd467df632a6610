/**
 * Runs work for keys, one run for a key at a time.
 * INVARIANTS: never two runs for one key at once; a trigger that arrives during a run leads to exactly one more run
 * after it, however many arrive; after the signal fires nothing new starts.
 */
export function keyedRunner(
  work: (key: string, signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
  onError: (key: string, error: unknown) => void,
): { trigger(key: string): void; idle(): Promise<void> } {
  const running = new Map<string, { again: boolean; done: Promise<void> }>()
  const run = async (key: string, state: { again: boolean }) => {
    do {
      state.again = false
      try {
        await work(key, signal)
      } catch (error) {
        onError(key, error)
      }
    } while (state.again && !signal.aborted)
    running.delete(key)
  }
  return {
    trigger(key) {
      if (signal.aborted) return
      const current = running.get(key)
      if (current) {
        current.again = true
        return
      }
      const state = { again: false, done: Promise.resolve() }
      running.set(key, state)
      state.done = run(key, state)
    },
    async idle() {
      while (running.size > 0) await Promise.all([...running.values()].map(state => state.done))
    },
  }
}
