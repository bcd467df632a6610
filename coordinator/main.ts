import { parseArgs } from 'node:util'
import { reasonOf } from '../shared/errors.ts'
import { signalOfProcess, untilAborted } from '../shared/lifecycle.ts'
import { createLogger } from '../shared/log.ts'
import { VERSION } from '../shared/version.ts'
import { HELP, OPTIONS } from './arguments.ts'
import { loadConfig } from './config.ts'
import { startCoordinator } from './start.ts'

// Node's warnings about its own future are for us, and not for whoever reads the journal.
process.noDeprecation = true

/** Runs until a signal. A restore ends one coordinator and starts the next on the new state in the same process. */
async function main(): Promise<void> {
  const { values } = parseArgs({ options: OPTIONS })
  if (values.help) return void process.stdout.write(HELP)
  if (values.version) return void process.stdout.write(`muster-coordinator ${VERSION}\n`)
  const flags = values['state-dir'] === undefined ? {} : { stateDir: values['state-dir'] }
  const config = await loadConfig(values.config, flags)
  const log = createLogger(config.logLevel)
  const signal = signalOfProcess()
  while (!signal.aborted) {
    await using coordinator = await startCoordinator(config, log)
    const why = await Promise.race([untilAborted(signal), coordinator.restartWanted])
    if (why) log.warn({ why }, 'starting anew')
  }
}

try {
  await main()
} catch (error) {
  process.stderr.write(`muster-coordinator: ${reasonOf(error)}\n`)
  process.exitCode = 1
}
