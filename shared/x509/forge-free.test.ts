import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { expect, it } from 'vitest'

const here = import.meta.dirname
const root = resolve(here, '../..')

/** What a machine or the operator's command may import from here. */
const forAgents = [
  'client-credentials.ts',
  'key-id.ts',
  'machine-key.ts',
  'peer-identity.ts',
  'pem.ts',
  'pinned-chain.ts',
  'proof.ts',
  'public-key.ts',
  'server-chain.ts',
]

/** Imports that remain when the program runs; those of types do not. */
function importsOf(path: string): string[] {
  const text = readFileSync(path, 'utf8')
  return [...text.matchAll(/^(?:import|export)\s(?!type\b)[^'"]*?['"]([^'"]+)['"]/gm)].flatMap(
    ([, name]) => name ?? [],
  )
}

function reachable(path: string, seen = new Set<string>()): Set<string> {
  for (const name of importsOf(path)) {
    const target = name.startsWith('.') ? resolve(dirname(path), name) : name
    if (seen.has(target)) continue
    seen.add(target)
    if (name.startsWith('.')) reachable(target, seen)
  }
  return seen
}

it('keeps forge out of everything that the agent imports', () => {
  for (const file of forAgents) expect([...reachable(join(here, file))], file).not.toContain('node-forge')
  expect([...reachable(join(here, 'issue-certificate.ts'))]).toContain('node-forge')
})

it('has forge imported nowhere but in this folder', () => {
  const elsewhere = ['shared', 'coordinator', 'agent', 'cli'].flatMap(part => {
    try {
      return readdirSync(join(root, part), { recursive: true, encoding: 'utf8' }).map(name =>
        join(root, part, name),
      )
    } catch {
      return [] // a part that does not exist imports nothing
    }
  })
  const importers = elsewhere
    .filter(path => path.endsWith('.ts') && !path.startsWith(here))
    .filter(path => importsOf(path).includes('node-forge'))
  expect(importers).toEqual([])
})
