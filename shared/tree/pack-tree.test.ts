import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  readlink,
  rm,
  symlink,
  truncate,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { sha256Hex } from '../ids.ts'
import { listTree } from './list-tree.ts'
import { packTree, streamTree } from './pack-tree.ts'
import { writeIn } from './testing/sample-tree.ts'
import { MAX_FILE_BYTES } from './tree-limits.ts'
import { unpackTree } from './unpack-tree.ts'

const base = await mkdtemp(join(tmpdir(), 'muster-tree-'))
afterAll(() => rm(base, { recursive: true }))
let count = 0
let dir: string
beforeEach(async () => {
  dir = join(base, String(count++))
  await mkdir(dir)
})
const write = (path: string, content: string | Buffer, mode?: number) => writeIn(dir, path, content, mode)
async function unpack(bytes: Uint8Array, expected = { digest: sha256Hex(bytes), length: bytes.length }) {
  const packed = join(base, `${count++}.tar`)
  await writeFile(packed, bytes)
  const destination = join(base, `${count++}-out`)
  const check = await unpackTree({ ...expected, file: packed, destination })
  return { check, destination }
}
/** Everything in a folder, as texts that can be compared. */
async function snapshot(root: string): Promise<Record<string, string>> {
  const found: Record<string, string> = {}
  for (const item of await readdir(root, { recursive: true, withFileTypes: true })) {
    const full = join(item.parentPath, item.name)
    const name = full.slice(root.length + 1)
    if (item.isSymbolicLink()) found[name] = `-> ${await readlink(full)}`
    else if (item.isFile()) {
      found[name] = `${((await lstat(full)).mode & 0o777).toString(8)} ${sha256Hex(await readFile(full))}`
    }
  }
  return found
}

describe('packing', () => {
  it('and unpacking gives the same files, modes and links', async () => {
    await write('fleet.toml', '[fleet]\n')
    await write('bin/run', '#!/bin/sh\n', 0o700)
    await write('a/b/c.nix', '{ }')
    await write('a.b', 'sorts between a and a/b in plain byte order')
    await write(`deep/${'long-name-'.repeat(12)}/ünïcödé ${'x'.repeat(100)}`, randomBytes(200_000))
    await write('empty', '')
    await symlink('../bin/run', join(dir, 'a/link'))
    await symlink(`${'./'.repeat(70)}fleet.toml`, join(dir, 'far'))
    const packed = join(base, `${count++}.tar`)
    const result = await packTree(dir, packed)
    expect(result).toMatchObject({
      kind: 'packed',
      entries: 8,
      files: expect.toSatisfy((files: ReadonlySet<string>) => files.has('empty') && !files.has('far')),
      executables: new Set(['bin/run']),
      digest: sha256Hex(await readFile(packed)),
    })
    const { check, destination } = await unpack(await readFile(packed))
    expect(check).toEqual({ kind: 'ok' })
    const wanted = await snapshot(dir)
    wanted['bin/run'] = wanted['bin/run']!.replace('700', '755')
    expect(await snapshot(destination)).toEqual(wanted)
    expect((await lstat(join(destination, 'a'))).mtimeMs).toBe(1000)
    expect((await lstat(join(destination, 'fleet.toml'))).mtimeMs).toBe(1000)
  })

  it('gives an archive that tar reads', async () => {
    await write('a/b', 'text')
    await write(`${'n'.repeat(120)}/f`, 'more')
    await symlink('b', join(dir, 'a/l'))
    const packed = join(base, `${count++}.tar`)
    await packTree(dir, packed)
    const listed = execFileSync('tar', ['-tf', packed]).toString().trim().split('\n')
    expect(listed).toEqual(['a/b', 'a/l', `${'n'.repeat(120)}/f`])
    expect(execFileSync('tar', ['-xOf', packed, 'a/b']).toString()).toBe('text')
  })

  it('gives the same digest whenever and in whatever order the files came to be', async () => {
    await write('a', '1')
    await write('b/c', '2', 0o600)
    const first = await packTree(dir)
    dir = join(base, String(count++))
    await write('b/c', '2', 0o664)
    await write('a', '1')
    await mkdir(join(dir, 'an-empty-folder'))
    await utimes(join(dir, 'a'), 5, 5)
    expect(await packTree(dir)).toEqual(first)
    await chmod(join(dir, 'a'), 0o755)
    expect(await packTree(dir)).not.toMatchObject({ digest: (first as { digest: string }).digest })
  })

  it('refuses, naming the file, what a machine would refuse', async () => {
    await write('fleet.toml', '')
    execFileSync('mkfifo', [join(dir, 'pipe')])
    expect(await packTree(dir)).toMatchObject({ kind: 'refused', reason: expect.stringContaining('pipe') })
    await rm(join(dir, 'pipe'))
    for (const target of ['/etc/passwd', '../outside', 'x/../../outside', '..']) {
      await symlink(target, join(dir, 'bad'))
      expect(await packTree(dir)).toMatchObject({ kind: 'refused', reason: expect.stringContaining('bad') })
      await rm(join(dir, 'bad'))
    }
    await write('new\nline', '')
    expect(await packTree(dir)).toMatchObject({ kind: 'refused', reason: expect.stringContaining('\\u000a') })
    await rm(join(dir, 'new\nline'))
    await writeFile(Buffer.concat([Buffer.from(`${dir}/`), Buffer.from([0xff, 0xfe])]), '')
    expect(await packTree(dir)).toMatchObject({ kind: 'refused', reason: expect.stringContaining('UTF-8') })
  })

  it('refuses more than a tree may hold before it reads any of it', async () => {
    await write('fleet.toml', '')
    for (let index = 0; index < 5; index++) {
      await write(`big-${index}`, '')
      await truncate(join(dir, `big-${index}`), MAX_FILE_BYTES - 1024)
    }
    expect(await packTree(dir)).toMatchObject({ kind: 'refused', reason: expect.stringContaining('bytes') })
    await truncate(join(dir, 'big-0'), MAX_FILE_BYTES + 1)
    expect(await packTree(dir)).toMatchObject({ kind: 'refused', reason: expect.stringContaining('big-0') })
  })

  it('refuses a file that changes while it is packed', async () => {
    await write('a', 'text')
    const path = join(dir, 'a')
    const drain = async () => {
      for await (const _ of streamTree(listing)) {
        // Only the end is of interest.
      }
    }
    const listing = await listTree(dir)
    await drain()
    for (const content of ['longer text', 'tex']) {
      await writeFile(path, content)
      await expect(drain()).rejects.toThrow('changed while')
    }
    await rm(path)
    execFileSync('mkfifo', [path])
    await expect(drain()).rejects.toThrow('changed while')
    await rm(path)
    await symlink('/etc/hostname', path)
    await expect(drain()).rejects.toThrow('ELOOP')
  })

  it('refuses a folder without files', async () => {
    expect(await packTree(dir)).toMatchObject({
      kind: 'refused',
      reason: expect.stringContaining('no files'),
    })
  })

  it('throws when the folder cannot be read: unreadable is not empty', async () => {
    await expect(packTree(join(dir, 'nowhere'))).rejects.toThrow('nowhere')
  })

  it('outside a repository takes all files that no .gitignore names but .git and result links, and says so', async () => {
    await write('.gitignore', 'secret')
    await write('secret', 'x')
    await write('deep/.gitignore', '*.log')
    await write('deep/a.log', 'x')
    await write('results/kept', 'x')
    await write('.git/not-really', 'x')
    await symlink('/nix/store/x', join(dir, 'result'))
    await symlink('/nix/store/x', join(dir, 'result-man'))
    expect(await packTree(dir)).toMatchObject({ entries: 3, notes: [expect.stringContaining('.gitignore')] })
  })
  it('outside a repository refuses one inside just as well, unless it is ignored', async () => {
    await write('fleet.toml', 'x')
    await write('inner/file', 'x')
    execFileSync('git', ['-C', join(dir, 'inner'), 'init', '-q'])
    const refused = { kind: 'refused', reason: expect.stringMatching(/^inner.*a git repository of its own/) }
    expect(await packTree(dir)).toMatchObject(refused)
    await write('.gitignore', 'result')
    expect(await packTree(dir)).toMatchObject(refused)
    await write('.gitignore', 'inner')
    expect(await packTree(dir)).toMatchObject({ entries: 2 })
  })
})
