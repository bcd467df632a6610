import { parseArgs } from 'node:util'
import { reasonOf } from '../shared/errors.ts'
import { signalOfProcess, untilAborted } from '../shared/lifecycle.ts'
import { createLogger } from '../shared/log.ts'
import { VERSION } from '../shared/version.ts'
import { loadConfig } from './config.ts'
import { startCoordinator } from './start.ts'

const HELP = `muster-coordinator: enrols machines, keeps what they are, gives them signed revisions

  muster-coordinator --config FILE    run with a configuration file (JSON)
  muster-coordinator --state-dir DIR  run with defaults on this state folder
  muster-coordinator --version

The settings of the file stand in docs/reference/coordinator.md. SIGTERM and SIGINT let calls end and stop.
`

/** Runs until a signal. A restore ends one coordinator and starts the next on the new state in the same process. */
async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      config: { type: 'string' },
      'state-dir': { type: 'string' },
      help: { type: 'boolean', short: 'h' },
      version: { type: 'boolean' },
    },
  })
  if (values.help) return void process.stdout.write(HELP)
  if (values.version) return void process.stdout.write(`${VERSION}\n`)
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
