import { spawnSync } from 'node:child_process'
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createMadeUpSystem } from './made-up-system.ts'
import { createRootedFiles } from './rooted-files.ts'

let root: string

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'muster-root-'))
  await mkdir(join(root, 'etc/static'), { recursive: true })
  await mkdir(join(root, 'commands'))
  await writeFile(join(root, 'etc/static/os-release'), 'ID=nixos\n')
  await writeFile(join(root, 'etc/empty'), '')
  await symlink('/etc/static/os-release', join(root, 'etc/os-release'))
  await symlink('../../../../../../etc/passwd', join(root, 'etc/out'))
  await symlink('/etc/loop', join(root, 'etc/loop'))
  await writeFile(join(root, 'commands/ip-addr.json'), '[]')
  await writeFile(join(root, 'commands/dmidecode.txt'), 'none')
  await writeFile(join(root, 'commands/dmidecode.exit'), '1\n')
})
afterAll(() => rm(root, { recursive: true }))

test('absolute links start again at the root', async () => {
  const files = createRootedFiles(root)
  expect(await files.readFile('/etc/os-release', 100)).toMatchObject({
    kind: 'file',
    bytes: Buffer.from('ID=nixos\n'),
  })
  expect(await files.readLink('/etc/os-release')).toEqual({ kind: 'link', target: '/etc/static/os-release' })
})

test('neither links nor dots lead out of the root', async () => {
  const files = createRootedFiles(root)
  expect(await files.readFile('/etc/out', 100)).toEqual({ kind: 'missing' })
  expect(await files.readFile('/../../../etc/passwd', 100)).toEqual({ kind: 'missing' })
})

test('T34: missing, unreadable and empty are three different values', async () => {
  const files = createRootedFiles(root)
  expect(await files.readFile('/etc/absent', 100)).toEqual({ kind: 'missing' })
  expect(await files.readFile('/etc/empty/below', 100)).toEqual({ kind: 'missing' })
  expect(await files.readFile('/etc/empty', 100)).toMatchObject({ kind: 'file', bytes: Buffer.alloc(0) })
  expect(await files.readFile('/etc', 100)).toEqual({ kind: 'unreadable', code: 'not a regular file' })
  expect(await files.readFile('/etc/loop', 100)).toEqual({ kind: 'unreadable', code: 'ELOOP' })
  expect(await files.readLink('/etc/empty')).toEqual({ kind: 'unreadable', code: 'EINVAL' })
  expect(await files.listDir('/absent')).toEqual({ kind: 'missing' })
})

test('a named pipe is refused and not waited for', async () => {
  spawnSync('mkfifo', [join(root, 'etc/pipe')])
  expect(await createRootedFiles(root).readFile('/etc/pipe', 100)).toMatchObject({ kind: 'unreadable' })
})

test('a file longer than its bound is cut and says so', async () => {
  expect(await createRootedFiles(root).readFile('/etc/os-release', 2)).toEqual({
    kind: 'file',
    bytes: Buffer.from('ID'),
    truncated: true,
  })
  expect(await createRootedFiles('/').readFile('/proc/self/status', 10)).toMatchObject({ truncated: true })
})

test('commands of a made-up machine answer from its folder, and no real one is run', async () => {
  const system = createMadeUpSystem(root)
  expect(await system.run('ip', ['-j', 'addr'], { deadlineMs: 1 })).toMatchObject({
    ending: { kind: 'exited', exitCode: 0 },
    stdout: '[]',
  })
  expect(await system.run('dmidecode', ['-t', '17'], { deadlineMs: 1 })).toMatchObject({
    ending: { kind: 'exited', exitCode: 1 },
    stdout: 'none',
  })
  expect((await system.run('true', [], { deadlineMs: 1 })).ending).toEqual({
    kind: 'not-found',
    command: 'true',
  })
  expect((await system.run('/bin/true', [], { deadlineMs: 1 })).ending.kind).toBe('not-found')
})
