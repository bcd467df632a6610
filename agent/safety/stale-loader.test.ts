import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createRealSystem } from '../system/real-system.ts'
import { clearStaleLoader } from './stale-loader.ts'

const system = createRealSystem({ root: '/', path: '' })
let root: string
let said: string[]
const clear = () => clearStaleLoader(system, root, line => said.push(line))
const left = async (path: string) => (await system.exists(join(root, path))).kind === 'present'

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'loader-'))
  said = []
  for (const mount of ['boot', 'efi']) {
    await mkdir(join(root, mount, 'loader'), { recursive: true })
    await writeFile(join(root, mount, 'loader/loader.conf'), 'default nixos-generation-1.conf\n')
  }
})
afterEach(async () => await rm(root, { recursive: true, force: true }))

describe('what a cut run of the boot loader’s installer left', () => {
  it('is taken away, and nothing else', async () => {
    await writeFile(join(root, 'efi/loader/loader.tmp'), 'defau')
    await clear()
    expect(said).toEqual([expect.stringContaining('efi/loader/loader.tmp was left by a run that was cut')])
    expect(await left('efi/loader/loader.tmp')).toBe(false)
    expect(await left('efi/loader/loader.conf')).toBe(true)
    await clear()
    expect(said).toHaveLength(1)
  })

  it('stays while a switch has the lock: it may be writing at this moment', async () => {
    await writeFile(join(root, 'boot/loader/loader.tmp'), 'defau')
    const lock = join(root, 'run/nixos/switch-to-configuration.lock')
    await mkdir(join(root, 'run/nixos'), { recursive: true })
    await writeFile(lock, '')
    // A shell of that name that holds the lock as the program does.
    const program = join(root, 'switch-to-configuration')
    await copyFile('/bin/sh', program)
    await chmod(program, 0o755)
    const held = spawn(program, ['-c', `exec 9>"${lock}"; flock 9; echo held; read -r _`], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    try {
      await once(held.stdout, 'data')
      await clear()
      expect(await left('boot/loader/loader.tmp')).toBe(true)
      expect(said).toEqual([expect.stringContaining('left alone')])
    } finally {
      held.stdin.end('\n')
      await once(held, 'close')
    }
    await clear()
    expect(await left('boot/loader/loader.tmp')).toBe(false)
  })
})
