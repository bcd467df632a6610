import { join } from 'node:path'
import { describeModule } from './described.ts'

/** The units that bring a machine back, as the agent's module renders them. */
export const AGENT_UNITS = [
  'muster-agent.service',
  'muster-dead-man.service',
  'muster-emergency.service',
  'muster-trial-limit.service',
] as const

/** Lab machines have them from here, where no library of nixpkgs need be. */
export const agentUnitsFolder = join(import.meta.dirname, '../fixtures/agent-units')

/** What the module makes of a node whose boot loader can boot a system once: name of the unit to its text. */
export function renderAgentUnits(): ReadonlyMap<string, string> {
  const { units, failedAssertions } = describeModule(
    'agent',
    `{ services.muster.agent = { enable = true; panicReboot = true; coordinator = "c.home:7443"; caPin = "${'ab'.repeat(32)}"; }; }`,
  )
  if (failedAssertions.length > 0) throw new Error(failedAssertions.join('\n'))
  return new Map(
    AGENT_UNITS.map(name => {
      const text = units[name]
      if (text === undefined) throw new Error(`the module has no ${name}`)
      // A file that was really written to the store, under a name that does not change with what is in it.
      return [name, text.replaceAll(/\/nix\/store\/(?!0{32}-)[a-z0-9]{32}-/g, '/etc/nixos-standin/')]
    }),
  )
}
