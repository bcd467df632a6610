import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { agentUnitsFolder, renderAgentUnits } from './agent-unit-fixtures.ts'
import { whyNoNixTests } from './nix-library.ts'

const why = whyNoNixTests()

describe.skipIf(why !== undefined)(`the units that lab machines boot with ${why ?? ''}`, () => {
  it('are what the agent’s module makes today', () => {
    // After a change that is meant: npx tsx test/nix/write-agent-unit-fixtures.ts
    const written = readdirSync(agentUnitsFolder).map(
      name => [name, readFileSync(join(agentUnitsFolder, name), 'utf8')] as const,
    )
    expect(Object.fromEntries(written)).toEqual(Object.fromEntries(renderAgentUnits()))
  })
})
