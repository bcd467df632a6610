import type { Cli } from '../cli.ts'

/**
 * Runs what only shows, and ends it without an error once nobody reads any more, as `head` does after its lines. Not for what
 * orders something or waits for its outcome: that goes on, and its exit code counts.
 */
export async function whileRead(cli: Cli, work: (cli: Cli) => Promise<void>): Promise<void> {
  const { readerGone } = cli.io
  try {
    await work({ ...cli, signal: AbortSignal.any([cli.signal, readerGone]) })
  } catch (error) {
    if (!readerGone.aborted || cli.signal.aborted) throw error
  }
}
