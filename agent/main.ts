import { reasonOf } from '../shared/errors.ts'
import { signalOfProcess, untilAborted } from '../shared/lifecycle.ts'
import { VERSION } from '../shared/version.ts'
import { HELP, readArguments } from './arguments.ts'
import { childPath, loadConfig, unitEnvironment } from './config.ts'
import { isFactsChild } from './facts/child-arguments.ts'

// Units start this program several times in one operation, to write a mark or to run a script of a gate: each command reads what it needs, and
// only the agent that runs, and who asks it on its socket, read gRPC.

// Node's warnings about its own future are for us, and not for whoever reads a node's journal.
process.noDeprecation = true

/** Runs the agent until a signal, or one of its commands. Gives the exit code. */
async function main(argv: readonly string[]): Promise<number> {
  if (isFactsChild(argv)) {
    const { stdin, stdout, stderr } = process
    const { runFactsChild } = await import('./facts/child.ts')
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
    case 'status': {
      const { statusText } = await import('./local/commands.ts')
      process.stdout.write(await statusText(wanted.socket, wanted.json))
      return 0
    }
    case 'trust-set': {
      const { setTrust } = await import('./local/commands.ts')
      process.stdout.write(await setTrust(wanted.socket, wanted.file))
      return 0
    }
    case 'order': {
      const { giveOrder } = await import('./local/commands.ts')
      process.stdout.write(await giveOrder(wanted.socket, wanted.verb, wanted.argument))
      return 0
    }
    case 'confirm': {
      const { confirmByHand } = await import('./local/commands.ts')
      process.stdout.write(await confirmByHand(wanted.socket, wanted.operation))
      return 0
    }
    case 'mark': {
      const { writeEndMark, writeStartMark } = await import('./safety/marks.ts')
      if (wanted.which === 'start') {
        const { readBootTime } = await import('./safety/uptime.ts')
        const { createRootedFiles } = await import('./system/rooted-files.ts')
        // Without it the mark counts all the same: the run began.
        const boot = await readBootTime(createRootedFiles('/')).catch(() => undefined)
        await writeStartMark(wanted.slot, new Date(), boot)
      } else await writeEndMark(wanted.slot, unitEnvironment(), new Date())
      return 0
    }
    case 'return': {
      const { runReturn } = await import('./safety/return-unit.ts')
      return await runReturn(wanted, signalOfProcess())
    }
    case 'trigger': {
      const { triggerReturn } = await import('./safety/return-unit.ts')
      return await triggerReturn(wanted)
    }
    case 'unit': {
      const { runAsUnit } = await import('./units/run-as-unit.ts')
      return await runAsUnit(JSON.parse(wanted.unit), wanted.stateDir)
    }
    case 'dead-man': {
      const { rearmAtBoot } = await import('./safety/rearm-at-boot.ts')
      const { readPlaces } = await import('./safety/read-places.ts')
      const { stateDir, problems } = await readPlaces(wanted.configFile, wanted.flags)
      for (const problem of problems) process.stderr.write(`${problem}\n`)
      const good = await rearmAtBoot(stateDir, line => process.stderr.write(`${line}\n`))
      return good ? 0 : 1
    }
    case 'trial-limit': {
      const { limitTrial } = await import('./safety/trial-limit.ts')
      const { readPlaces } = await import('./safety/read-places.ts')
      const { stateDir, bootMs } = await readPlaces(wanted.configFile, wanted.flags)
      await limitTrial(stateDir, bootMs, line => process.stderr.write(`${line}\n`), signalOfProcess())
      return 0
    }
    case 'cluster-secrets': {
      const { openClusterSecrets } = await import('./cluster-secrets/open-cluster-secrets.ts')
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
      const [{ startAgent }, { createParts }] = await Promise.all([
        import('./start.ts'),
        import('./parts.ts'),
      ])
      await using agent = await startAgent(config, createParts(config)).catch(async (error: unknown) => {
        const { ConsoleWriter, failedStartText } = await import('./identity/console.ts')
        const { createLog } = await import('./log.ts')
        await new ConsoleWriter(config.console, createLog(config.logLevel)).show(failedStartText(error))
        throw error
      })
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
