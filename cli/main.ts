import { systemClock } from '../shared/clock.ts'
import { hasCode } from '../shared/errors.ts'
import { signalOfProcess } from '../shared/lifecycle.ts'
import { readSettings } from './config.ts'
import { processIo } from './io.ts'
import { runCli } from './run-cli.ts'

// Whoever reads may stop reading, as `head` does; that is no error of ours, and nothing more need be written.
const readerGone = new AbortController()
process.stdout.on('error', (error: unknown) => {
  if (!hasCode(error, 'EPIPE')) throw error
  readerGone.abort(error)
})

// Node's warnings about its own future are for us and not for whoever runs a command.
process.noDeprecation = true

const settings = readSettings()
process.exitCode = await runCli(process.argv.slice(2), {
  io: processIo(process, settings, readerGone.signal),
  settings,
  signal: signalOfProcess(),
  clock: systemClock,
})
