// For tests: runs one command line in this process, with its output kept.
import { type Clock, systemClock } from '../../shared/clock.ts'
import type { Settings } from '../config.ts'
import { runCli } from '../run-cli.ts'

export interface Ran {
  readonly code: number
  readonly out: string
  readonly err: string
}

export interface RunOptions {
  readonly settings?: Partial<Settings>
  readonly terminal?: boolean
  /** Of standard error alone; absent: as `terminal`. */
  readonly errTerminal?: boolean
  readonly signal?: AbortSignal
  /** Fires when nobody reads what is printed any more. */
  readonly readerGone?: AbortSignal
  readonly onErr?: (text: string) => void
  readonly onOut?: (text: string) => void
  /** What the person at the terminal answers; absent: there is none. */
  readonly answer?: string
  /** The terminal's size, as it is at any moment. */
  readonly screen?: () => { readonly columns: number; readonly rows: number }
  /** Is given what to call when that size has changed. */
  readonly onResize?: (changed: () => void) => void
  /** What ages are told by; the system's clock where nothing is said. */
  readonly clock?: Clock
}

export async function runMuster(words: readonly string[], options: RunOptions = {}): Promise<Ran> {
  let out = ''
  let err = ''
  const terminal = options.terminal ?? false
  const settings: Settings = {
    socket: undefined,
    profile: undefined,
    configHome: '/nonexistent/muster',
    noColour: false,
    columns: undefined,
    ...options.settings,
  }
  const code = await runCli(words, {
    io: {
      out: text => {
        out += text
        options.onOut?.(text)
      },
      err: text => {
        err += text
        options.onErr?.(text)
      },
      outIsTerminal: terminal,
      errIsTerminal: options.errTerminal ?? terminal,
      columns: options.screen?.().columns ?? 100,
      get screen() {
        return options.screen?.() ?? { columns: 80, rows: 24 }
      },
      onResize: listener => {
        options.onResize?.(listener)
        return () => {}
      },
      readerGone: options.readerGone ?? new AbortController().signal,
      colour: terminal && !settings.noColour,
      ...(options.answer !== undefined && {
        ask: async (question: string) => {
          err += question
          return options.answer ?? ''
        },
      }),
    },
    settings,
    signal: options.signal ?? new AbortController().signal,
    clock: options.clock ?? systemClock,
  })
  return { code, out, err }
}
