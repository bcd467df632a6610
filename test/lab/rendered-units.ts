import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { agentUnitsFolder } from '../nix/agent-unit-fixtures.ts'

/** What stands in a lab machine for the agent's program; a test puts it there. */
export const PROGRAM = '/opt/program'

/** A unit as the agent's module renders it, with this machine's programs in the place of store paths that nobody built. */
export function renderedUnit(name: string): string {
  return readFileSync(join(agentUnitsFolder, name), 'utf8')
    .replaceAll(/\/nix\/store\/0+-agent[^/]*\/bin\/muster-agent/g, PROGRAM)
    .replaceAll(/\/nix\/store\/0+-[^/]+\/bin\/(bash|sleep|systemctl)/g, '/usr/bin/$1')
    .replaceAll(/"PATH=[^"]*"/g, '"PATH=/usr/bin:/bin"')
}
