import { CommanderError } from 'commander'
import type { Cli } from './cli.ts'
import { CliError, exitCodes } from './exit-codes.ts'
import { paint } from './output/colour.ts'
import { buildProgram } from './program.ts'

/** Runs one command line and says with which code the process should end. */
export async function runCli(words: readonly string[], base: Omit<Cli, 'connection'>): Promise<number> {
  const program = buildProgram(base)
  try {
    await program.parseAsync(words, { from: 'user' })
    return exitCodes.ok.code
  } catch (error) {
    // Help and version come out as errors with code 0; their text, and that of a usage error, is printed already.
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : exitCodes.usage.code
    // What was cut off says nothing of itself; who waited says what goes on without it.
    if (base.signal.aborted && !(error instanceof CliError)) return exitCodes.interrupted.code
    const { describeFailure } = await import('./explain-error.ts')
    const { exit, text } = describeFailure(error)
    if (text !== '')
      base.io.err(`${paint('muster:', 'bad', base.io.errIsTerminal && !base.settings.noColour)} ${text}\n`)
    return exitCodes[exit].code
  }
}
