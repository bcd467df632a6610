import { escapeText } from '../../shared/escape.ts'
import type { Cli } from '../cli.ts'

/** A line on the terminal that says how far something is. Without a terminal it says nothing. */
export interface Progress extends Disposable {
  update(state: string): void
  /** Takes the line away. */
  end(): void
}

const EVERY_MS = 100

export function startProgress({ io, clock }: Pick<Cli, 'io' | 'clock'>, what: string): Progress {
  let shownAt = 0
  let shown = false
  const end = () => {
    if (shown) io.err('\r\u001b[K')
    shown = false
  }
  return {
    update(state) {
      const now = clock.now().getTime()
      if (!io.errIsTerminal || now - shownAt < EVERY_MS) return
      shownAt = now
      shown = true
      io.err(`\r${escapeText(`${what}: ${state}`).slice(0, io.columns - 1)}\u001b[K`)
    },
    end,
    [Symbol.dispose]: end,
  }
}
