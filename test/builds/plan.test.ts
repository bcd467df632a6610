import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { closureNeed, closureSize } from '../../agent/plan/closure-size.ts'
import { readGenerations } from '../../agent/plan/generations.ts'
import { removeGenerations } from '../../agent/plan/remove-generations.ts'
import { surplusGenerations } from '../../agent/plan/surplus-generations.ts'
import { createRealSystem } from '../../agent/system/real-system.ts'
import { hasNix, nixEnvironment } from '../nix/nix-library.ts'

// What a plan asks of Nix, of the real one: each machine has a store in a folder of its own.

const folders: string[] = []
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true })
})

function machineWithNix() {
  const root = mkdtempSync(join(tmpdir(), 'mp-'))
  folders.push(root)
  const env = { NIX_REMOTE: root, NIX_CONFIG: nixEnvironment.NIX_CONFIG, HOME: root }
  const run = (command: string, ...args: string[]) =>
    execFileSync(command, args, { env: { ...process.env, ...env }, encoding: 'utf8', stdio: 'pipe' }).trim()
  return {
    root,
    run,
    system: createRealSystem({ root, path: process.env.PATH ?? '', env }),
    /** Files without a build: one of about 300 kB, and one that names it. */
    makeClosure: (): string => {
      const salt = randomBytes(8).toString('hex')
      const big = `builtins.toFile "big" (builtins.concatStringsSep "" (builtins.genList (i: "0123456789") 30000))`
      const text = `builtins.toFile "top-${salt}" "\${${big}} ${salt}"`
      return run('nix-instantiate', '--eval', '--read-write-mode', '-E', text).replaceAll('"', '')
    },
  }
}

describe.skipIf(!hasNix)('what a plan asks of Nix', () => {
  it('how much a closure would add: all of it, the rest of it, none of it, or nobody knows', async () => {
    const builder = machineWithNix()
    const node = machineWithNix()
    const [first, second] = [builder.makeClosure(), builder.makeClosure()]
    const cache = `file://${builder.root}/cache`
    builder.run('nix', 'copy', '--to', cache, first, second)
    const need = (storePath: string, substituters = [cache]) =>
      closureNeed(node.system, { storePath, substituters, publicKeys: [] })

    const all = await need(first)
    expect(all).toMatchObject({ kind: 'need', paths: 2 })
    if (all.kind === 'need') expect(all.bytes).toBeGreaterThan(300_000)
    if (all.kind === 'need') expect(all.bytes).toBeLessThan(330_000)
    node.run('nix', 'copy', '--no-check-sigs', '--from', cache, first)
    expect(await need(first)).toEqual({ kind: 'need', bytes: 0, paths: 0 })
    const rest = await need(second)
    expect(rest).toMatchObject({ kind: 'need', paths: 1 })
    if (rest.kind === 'need') expect(rest.bytes).toBeLessThan(20_000)
    expect(await need(second, [])).toMatchObject({ kind: 'unknown' })
  })

  it('how big a closure is, and how much of it the running system has not', async () => {
    const node = machineWithNix()
    const [first, second] = [node.makeClosure(), node.makeClosure()]
    const size = await closureSize(node.system, second, first)
    expect(size).toMatchObject({ kind: 'size', paths: 2, newPaths: 1 })
    if (size.kind === 'size') {
      expect(size.bytes).toBeGreaterThan(300_000)
      expect(size.newBytes).toBeLessThan(1_000)
    }
    expect(await closureSize(node.system, second, undefined)).toMatchObject({ newPaths: 2 })
    const nowhere = `/nix/store/${'0'.repeat(32)}-nowhere`
    expect(await closureSize(node.system, nowhere, first)).toMatchObject({ kind: 'unknown' })
  })

  it('to remove surplus generations, and what only they held', async () => {
    const node = machineWithNix()
    const profile = join(node.root, 'nix/var/nix/profiles/system')
    const systems = [node.makeClosure(), node.makeClosure(), node.makeClosure()]
    for (const path of systems) node.run('nix-env', '--profile', profile, '--set', path)
    const [old, running, next] = systems
    mkdirSync(join(node.root, 'run'))
    for (const name of ['booted-system', 'current-system'])
      symlinkSync(running ?? '', join(node.root, 'run', name))
    const before = await readGenerations(node.system, '/')
    if (before.kind !== 'generations') throw new Error(before.why)
    expect(before.value.generations.map(({ path }) => path)).toEqual(
      systems.map(value => ({ kind: 'value', value })),
    )
    const surplus = surplusGenerations({ generations: before.value, keep: 1, protect: [], nowMs: Date.now() })
    if (surplus.kind !== 'surplus') throw new Error(surplus.why)
    const removal = await removeGenerations({
      system: node.system,
      profile,
      remove: surplus.remove,
      bootDefault: next ?? '',
      deadlineMs: 60_000,
      // What is in this store are no systems; what they would do here is shown where they are.
      runBoot: async () => undefined,
      collectGarbage: true,
    })
    expect(removal).toEqual({ kind: 'removed', numbers: [1] })
    const after = await readGenerations(node.system, '/')
    expect(after).toMatchObject({
      value: { generations: [{ number: 2 }, { number: 3 }], profileNumber: 3, profile: { value: next } },
    })
    expect(await node.system.exists(old ?? '')).toEqual({ kind: 'missing' })
    for (const path of [running, next])
      expect(await node.system.exists(path ?? '')).toEqual({ kind: 'present' })
  })
})
