import { deepStrictEqual } from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const agent = join(import.meta.dirname, '../../agent')

/**
 * Where a command is computed: what it can be. Nothing where it is a path, a program of the cluster (whose folders the
 * configuration names), or handed on from a place that is found by itself.
 */
const COMPUTED: Readonly<Record<string, readonly string[]>> = {
  'drivers/components/pki.ts: program': ['chmod', 'chown'],
  'drivers/run-program.ts: command': [],
  'facts/collect-in-child.ts: program': [],
  'facts/source.ts: command': [],
  'gates/probe-script.ts: join(treeDir': [],
  'operation/phases/preflight.ts: tool': ['nix', 'nix-env', 'nix-store'],
  'operation/run-logged.ts: command': ['nix', 'nixos-rebuild', 'systemd-run'],
  'safety/walk-back.ts: join(toplevel': [],
  'units/systemd-units.ts: command': [],
}

/** What the source of the agent starts by its name, so that its units must have it on their PATH. */
export function commandsOfAgent(): readonly string[] {
  const commands = new Set<string>()
  const computed = new Set<string>()
  for (const [file, text] of sources()) {
    const named = /\b(?:(?:run|output|stream)\(|runLogged\(\s*context,|findCommand\()\s*'([^']+)'/g
    for (const [, name = ''] of text.matchAll(named)) if (!name.startsWith('/')) commands.add(name)
    for (const [, expression = ''] of text.matchAll(/\bsystem\.(?:run|stream)\(\s*([^'\s,][^,]*),/g)) {
      computed.add(`${file}: ${expression}`)
    }
  }
  // One that this file does not know could be any command.
  deepStrictEqual([...computed].sort(), Object.keys(COMPUTED).sort())
  return [...new Set([...commands, ...Object.values(COMPUTED).flat()])].sort()
}

function* sources(): Generator<readonly [file: string, text: string]> {
  for (const path of readdirSync(agent, { recursive: true, encoding: 'utf8' }).sort()) {
    if (!path.endsWith('.ts') || path.endsWith('.test.ts') || path.includes('/testing/')) continue
    yield [path, readFileSync(join(agent, path), 'utf8')]
  }
}
