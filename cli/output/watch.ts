import { pause } from '../../shared/lifecycle.ts'
import type { Cli } from '../cli.ts'
import { formatDuration } from '../duration.ts'
import { describeFailure } from '../explain-error.ts'
import { whileRead } from './while-read.ts'

/** `--watch` without a number. */
const DEFAULT_SECONDS = 2

/**
 * Shows something once, or again and again until a signal, or until nobody reads. On a terminal each picture replaces the one before; elsewhere
 * they follow each other. A coordinator that stops answering is reported and asked again.
 */
export async function watch(
  cli: Cli,
  seconds: number | boolean | undefined,
  render: () => Promise<string>,
): Promise<void> {
  await whileRead(cli, reading => watchOn(reading, seconds, render))
}

async function watchOn(
  cli: Cli,
  seconds: number | boolean | undefined,
  render: () => Promise<string>,
): Promise<void> {
  const first = await render()
  if (seconds === undefined || seconds === false) return cli.io.out(first)
  const everyMs = (seconds === true ? DEFAULT_SECONDS : seconds) * 1000
  show(cli, first)
  while (await pause(everyMs, cli.signal)) {
    try {
      show(cli, await render())
    } catch (error) {
      const { exit, text } = describeFailure(error)
      if (exit !== 'unavailable') throw error
      show(cli, `${text}\nIt is asked again in ${formatDuration(everyMs)}.\n`)
    }
  }
}

function show({ io }: Cli, picture: string): void {
  // Home, the picture, what was below it cleared: without a blank moment in between.
  io.out(io.outIsTerminal ? `\u001b[H${picture.replaceAll('\n', '\u001b[K\n')}\u001b[J` : picture)
}
