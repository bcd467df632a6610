import { join } from 'node:path'
import { createClusterDoor, noClusterDoor } from './clusters/cluster-door.ts'
import { type AgentConfig, toolEnvironment } from './config.ts'
import { collectFactsInChild, evaluateRuleInChild, type FactsChildConfig } from './facts/collect-in-child.ts'
import type { AgentParts } from './start.ts'
import { createMadeUpSystem } from './system/made-up-system.ts'
import { createRealSystem } from './system/real-system.ts'
import { processUnits } from './units/process-units.ts'
import { systemdUnits } from './units/systemd-units.ts'

/**
 * For one child as a whole, on a machine that is slow and busy, where its start alone may take half a minute: what waits for the facts, an
 * enrolment or a change, goes wrong without them. A single tool that hangs costs its own facts only, and sooner.
 */
const FACTS_DEADLINE_MS = 120_000

/** The doors of this agent to its machine: commands, files, and children of its own program. */
export function createParts(config: AgentConfig): AgentParts {
  const system = createRealSystem({ root: '/', path: config.toolPath, env: toolEnvironment() })
  const [program, script] = [process.execPath, process.argv[1] ?? '']
  const child: FactsChildConfig = {
    system,
    command: [program, ...process.execArgv, script],
    root: config.factsRoot,
    deadlineMs: FACTS_DEADLINE_MS,
  }
  return {
    system,
    // Of a machine that is made up nothing of the one it runs on is told.
    probed: config.simulated
      ? createMadeUpSystem(config.factsRoot ?? config.systemRoot ?? config.stateDir)
      : system,
    program: child.command,
    // A machine that is made up has no Kubernetes of its own, whatever lies on the disk of the one it runs on.
    clusterDoor: config.simulated ? noClusterDoor : createClusterDoor(system),
    makeUnits: ({ stateDir, restartAgent }) =>
      config.simulated
        ? processUnits({
            folder: join(stateDir, 'units'),
            home: stateDir,
            program: child.command,
            path: config.toolPath,
            env: toolEnvironment(),
            restartAgent,
          })
        : systemdUnits(system),
    children: {
      facts: signal => collectFactsInChild(child, signal),
      rule: (rule, signal) => evaluateRuleInChild(child, rule, signal),
    },
  }
}
