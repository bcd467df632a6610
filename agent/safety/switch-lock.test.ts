import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { mkdir, mkdtemp, realpath, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ScriptedSystem } from '../operation/testing/scripted-system.ts'
import { createRealSystem } from '../system/real-system.ts'
import { freeStaleLock, switchLockHolder } from './switch-lock.ts'

const system = createRealSystem({ root: '/', path: '/usr/bin:/bin' })
const running: ChildProcess[] = []
let root: string
let lock: string
let said: string[]

beforeEach(async () => {
  root = await realpath(await mkdtemp(join(tmpdir(), 'lock-')))
  lock = join(root, 'run/nixos/switch-to-configuration.lock')
  await mkdir(join(root, 'run/nixos'), { recursive: true })
  await writeFile(lock, '')
  said = []
})
afterEach(async () => {
  for (const child of running.splice(0)) if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
  await rm(root, { recursive: true })
})

/** Runs a script of the shell in a group of its own; ready when it says so. */
async function hold(script: string, ...args: string[]): Promise<ChildProcess> {
  const child = spawn('bash', ['-c', script, 'bash', lock, ...args], {
    detached: true,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  running.push(child)
  await new Promise(resolve => child.stdout.once('data', resolve))
  return child
}

const canLock = () => spawnSync('flock', ['--nonblock', lock, 'true']).status === 0
const free = () => freeStaleLock(system, root, line => said.push(line))

// Whose files they are is a question for root, as which the agent runs.
const why = process.getuid?.() === 0 ? undefined : 'skipped: not root'

describe.skipIf(why !== undefined)(`the lock of the switch program ${why ?? ''}`, () => {
  it('is free when nobody holds it, though its file is open somewhere, and when it is not there', async () => {
    await hold('exec 9<"$1"; sleep 60 & echo ready; wait')
    expect(await switchLockHolder(system, root)).toEqual({ kind: 'free' })
    await rm(lock)
    expect(await switchLockHolder(system, root)).toEqual({ kind: 'free' })
    expect(await free()).toBe(false)
  })

  it('N8: that a child inherited, which outlived its switch, is replaced, so that it locks nobody out', async () => {
    // The shell that took the lock ends; the sleep that it started has its descriptor.
    const taker = await hold('exec 9<"$1"; flock --nonblock 9; sleep 60 & echo ready')
    await expect.poll(() => taker.exitCode).toBe(0)
    expect(canLock()).toBe(false)
    expect(await switchLockHolder(system, root)).toMatchObject({ kind: 'other', program: 'sleep' })
    const { ino } = await stat(lock)
    expect(await free()).toBe(true)
    expect(said.join()).toMatch(/\(sleep\), which is no switch: it was replaced/)
    expect((await stat(lock)).ino).not.toBe(ino)
    expect(canLock()).toBe(true)
  })

  it('N8: is left alone while any switch holds it, itself or by a shell that runs it', async () => {
    const program = join(root, 'switch-to-configuration')
    await symlink('/bin/sleep', program)
    await hold('exec 9<"$1"; flock --nonblock 9; "$2" 60 & echo ready; wait', program)
    expect(await switchLockHolder(system, root)).toMatchObject({ kind: 'switch' })
    const { ino } = await stat(lock)
    expect(await free()).toBe(false)
    expect(said.join()).toMatch(/is switching/)
    expect((await stat(lock)).ino).toBe(ino)
    expect(canLock()).toBe(false)
  })

  it('N7: is unknown, never free, where nobody can be asked', async () => {
    const blind = new ScriptedSystem()
    blind.files.clear()
    blind.files.set('/run/nixos/switch-to-configuration.lock', '')
    expect(await switchLockHolder(blind, '/')).toEqual({
      kind: 'unknown',
      reason: '/proc cannot be read',
    })
  })
})
