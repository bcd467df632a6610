import { lstat, mkdir, mkdtemp, readdir, readFile, readlink, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ScriptedSystem } from '../operation/testing/scripted-system.ts'
import { linkExternalFiles } from './external-files.ts'

let root: string
let system: ScriptedSystem
const UNITS = 'etc/systemd/system'
const profile = () => join(root, 'profile')

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'external-'))
  system = new ScriptedSystem()
  system.scripts.set('systemctl', () => ({}))
})
afterEach(() => rm(root, { recursive: true }))

async function put(path: string, text: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  await writeFile(path, text)
}

/** A package with these files in `etc`, to which the profile moves. */
async function moveTo(name: string, ...files: readonly string[]): Promise<string> {
  const storePath = join(root, name)
  for (const file of files) await put(join(storePath, 'etc', file), `${file} of ${name}`)
  await rm(profile(), { force: true })
  await symlink(storePath, profile())
  return storePath
}
const link = async (storePath: string) =>
  linkExternalFiles(system, { root, profile: profile(), storePath, say: () => {} })
const unit = (name: string) => `systemd/system/${name}`

describe('units where the system is somebody else’s', () => {
  it('K11: are linked through the profile, started at a boot, and follow its moves', async () => {
    const first = await moveTo(
      'one',
      unit('k3s.service'),
      unit('muster-kubernetes.service'),
      'muster/cluster.json',
    )
    expect(await link(first)).toBeUndefined()
    expect(await readlink(join(root, UNITS, 'k3s.service'))).toBe(join(profile(), UNITS, 'k3s.service'))
    expect(await readdir(join(root, UNITS, 'multi-user.target.wants'))).toEqual(['muster-kubernetes.service'])
    expect(await readFile(join(root, 'etc/muster/cluster.json'), 'utf8')).toContain('of one')
    const { mtimeMs } = await lstat(join(root, UNITS, 'k3s.service'))
    expect(await link(first)).toBeUndefined()
    expect((await lstat(join(root, UNITS, 'k3s.service'))).mtimeMs).toBe(mtimeMs)
    expect(system.commands).toEqual(['systemctl daemon-reload', 'systemctl daemon-reload'])

    const second = await moveTo('two', unit('k3s.service'), unit('extra.service'), 'muster/cluster.json')
    expect(await link(second)).toBeUndefined()
    expect(await readFile(join(root, UNITS, 'k3s.service'), 'utf8')).toContain('of two')
    expect(await readdir(join(root, UNITS, 'multi-user.target.wants'))).toEqual([])
    expect((await readdir(join(root, UNITS))).sort()).toEqual([
      'extra.service',
      'k3s.service',
      'multi-user.target.wants',
    ])
  })

  it('replace nothing that is not Muster’s, and then nothing is linked', async () => {
    for (const other of [
      async (path: string) => put(path, 'mine'),
      async (path: string) => symlink('/dev/null', path),
    ]) {
      const path = join(root, UNITS, 'z.service')
      await mkdir(dirname(path), { recursive: true })
      await other(path)
      const storePath = await moveTo('one', unit('a.service'), unit('z.service'))
      expect(await link(storePath)).toContain(`${path} is there and not Muster's`)
      expect(await readdir(join(root, UNITS))).toEqual(['z.service'])
      await rm(path)
    }
    expect(system.commands).toEqual([])
  })

  it('K11: are not put into the store, where the units of NixOS are', async () => {
    const units = join(root, 'nix/store/a-system/etc/systemd/system')
    await put(join(units, 'own.service'), 'theirs')
    await mkdir(join(root, 'etc/systemd'), { recursive: true })
    await symlink(units, join(root, UNITS))
    const storePath = await moveTo('one', unit('k3s.service'), 'muster/cluster.json')
    expect(await link(storePath)).toMatch(/etc\/systemd\/system is part of a system of NixOS/)
    expect(await readdir(units)).toEqual(['own.service'])
    expect(await readdir(join(root, 'etc'))).toEqual(['systemd'])
    expect(system.commands).toEqual([])
  })

  it('are none where the package brings none', async () => {
    const storePath = await moveTo('one')
    await put(join(storePath, 'bin/k3s'), '')
    expect(await link(storePath)).toBeUndefined()
    expect(system.commands).toEqual([])
  })
})
