// Renews test/fixtures/agent-units from the Nix module: `npx tsx test/nix/write-agent-unit-fixtures.ts`. Needs Nix and the
// library of nixpkgs, as the tests beside it do.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { agentUnitsFolder, renderAgentUnits } from './agent-unit-fixtures.ts'
import { whyNoNixTests } from './nix-library.ts'

const why = whyNoNixTests()
if (why === undefined) {
  const units = renderAgentUnits()
  rmSync(agentUnitsFolder, { recursive: true, force: true })
  mkdirSync(agentUnitsFolder, { recursive: true })
  for (const [name, text] of units) writeFileSync(join(agentUnitsFolder, name), text)
  process.stdout.write(`agent-units: ${units.size} files\n`)
} else {
  process.stderr.write(`the fixtures were not renewed: ${why}\n`)
  process.exitCode = 1
}
