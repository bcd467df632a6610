import { reasonOf } from '../shared/errors.ts'
import { signalOfProcess, untilAborted } from '../shared/lifecycle.ts'
import { VERSION } from '../shared/version.ts'
import { HELP, readArguments } from './arguments.ts'
import { openClusterSecrets } from './cluster-secrets/open-cluster-secrets.ts'
import { childPath, loadConfig, unitEnvironment } from './config.ts'
import { isFactsChild, runFactsChild } from './facts/child.ts'
import { confirmByHand, giveOrder, setTrust, statusText } from './local/commands.ts'
import { createParts } from './parts.ts'
import { writeEndMark, writeStartMark } from './safety/marks.ts'
import { rearmAtBoot } from './safety/rearm-at-boot.ts'
import { runReturn, triggerReturn } from './safety/return-unit.ts'
import { readBootTime } from './safety/uptime.ts'
import { startAgent } from './start.ts'
import { createRootedFiles } from './system/rooted-files.ts'
import { runAsUnit } from './units/run-as-unit.ts'

/** Runs the agent until a signal, or one of its commands. Gives the exit code. */
async function main(argv: readonly string[]): Promise<number> {
  if (isFactsChild(argv)) {
    const { stdin, stdout, stderr } = process
    return runFactsChild({ argv, path: childPath(), stdin, stdout, stderr, signal: signalOfProcess() })
  }
  const wanted = readArguments(argv)
  switch (wanted.command) {
    case 'help':
      process.stdout.write(HELP)
      return 0
    case 'version':
      process.stdout.write(`muster-agent ${VERSION}\n`)
      return 0
    case 'status':
      process.stdout.write(await statusText(wanted.socket, wanted.json))
      return 0
    case 'trust-set':
      process.stdout.write(await setTrust(wanted.socket, wanted.file))
      return 0
    case 'order':
      process.stdout.write(await giveOrder(wanted.socket, wanted.verb, wanted.argument))
      return 0
    case 'confirm':
      process.stdout.write(await confirmByHand(wanted.socket, wanted.operation))
      return 0
    case 'mark':
      if (wanted.which === 'start') {
        // Without it the mark counts all the same: the run began.
        const boot = await readBootTime(createRootedFiles('/')).catch(() => undefined)
        await writeStartMark(wanted.slot, new Date(), boot)
      } else await writeEndMark(wanted.slot, unitEnvironment(), new Date())
      return 0
    case 'return':
      return await runReturn(wanted, signalOfProcess())
    case 'trigger':
      return await triggerReturn(wanted)
    case 'unit':
      return await runAsUnit(JSON.parse(wanted.unit), wanted.stateDir)
    case 'dead-man': {
      const { stateDir } = await loadConfig(wanted.configFile, wanted.flags)
      const good = await rearmAtBoot(stateDir, line => process.stderr.write(`${line}\n`))
      return good ? 0 : 1
    }
    case 'cluster-secrets': {
      const { stateDir } = await loadConfig(wanted.configFile, wanted.flags)
      const outcome = await openClusterSecrets(stateDir)
      if (outcome.kind !== 'failed') return 0
      for (const reason of outcome.reasons) process.stderr.write(`${reason}\n`)
      process.stderr.write('Kubernetes is not started: let the node leave its cluster and join again\n')
      return 1
    }
    case 'run': {
      const signal = signalOfProcess()
      const config = await loadConfig(wanted.configFile, wanted.flags)
      await using agent = await startAgent(config, createParts(config))
      await Promise.race([untilAborted(signal), agent.ended])
      return 0
    }
  }
}

try {
  process.exitCode = await main(process.argv.slice(2))
} catch (error) {
  process.stderr.write(`muster-agent: ${reasonOf(error)}\n`)
  process.exitCode = 1
}
