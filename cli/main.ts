import { systemClock } from '../shared/clock.ts'
import { hasCode, reasonOf } from '../shared/errors.ts'
import { signalOfProcess } from '../shared/lifecycle.ts'
import { readSettings } from './config.ts'
import { exitCodes } from './exit-codes.ts'
import { processIo } from './io.ts'
import { runCli } from './run-cli.ts'

// Whoever reads may stop reading, as `head` does; that is no error of ours, and nothing more need be written.
const readerGone = new AbortController()
let unwritten = false
process.stdout.on('error', (error: unknown) => {
  readerGone.abort(error)
  if (hasCode(error, 'EPIPE') || unwritten) return
  unwritten = true
  process.stderr.write(`muster: standard output: ${reasonOf(error)}\n`)
})

// Node's warnings about its own future are for us and not for whoever runs a command.
process.noDeprecation = true

const settings = readSettings()
const code = await runCli(process.argv.slice(2), {
  io: processIo(process, settings, readerGone.signal),
  settings,
  signal: signalOfProcess(),
  clock: systemClock,
})
// What a disk that is full did not take is an error, however well all else went.
process.on('exit', () => {
  process.exitCode = unwritten ? exitCodes.error.code : code
})
