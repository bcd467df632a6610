import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
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
import { dirname, join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { sha256Hex } from '../ids.ts'
import { gitState } from './git.ts'
import { listTree } from './list-tree.ts'
import { packTree, streamTree } from './pack-tree.ts'
import { checkTree, receiveTree } from './receive-tree.ts'
import { END_OF_TREE, encodeHeader, paddingOf } from './tar-header.ts'
import { sortEntries, type TreeEntry } from './tree-entry.ts'
import { MAX_ENTRIES, MAX_FILE_BYTES, MAX_TREE_BYTES } from './tree-limits.ts'
import { unpackTree } from './unpack-tree.ts'

const base = await mkdtemp(join(tmpdir(), 'muster-tree-'))
afterAll(() => rm(base, { recursive: true }))
let count = 0
let dir: string
beforeEach(async () => {
  dir = join(base, String(count++))
  await mkdir(dir)
})

async function write(path: string, content: string | Buffer, mode = 0o644): Promise<void> {
  await mkdir(dirname(join(dir, path)), { recursive: true })
  await writeFile(join(dir, path), content)
  await chmod(join(dir, path), mode)
}
async function* chunks(bytes: Uint8Array, size = 1000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size)
}
/** The packed form of entries that no packer may have wanted to write. */
function pack(entries: readonly (TreeEntry & { content?: string })[]): Buffer {
  const parts = entries.flatMap(entry => {
    const content = Buffer.from(entry.content ?? '')
    return [encodeHeader(entry), content, Buffer.alloc(paddingOf(content.length))]
  })
  return Buffer.concat([...parts, END_OF_TREE])
}
const file = (path: string, content = ''): TreeEntry & { content: string } => ({
  kind: 'file',
  path,
  size: Buffer.byteLength(content),
  executable: false,
  content,
})
const link = (path: string, target: string): TreeEntry => ({ kind: 'link', path, target })

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
const git = (...args: string[]) =>
  execFileSync('git', ['-C', dir, '-c', 'user.name=t', '-c', 'user.email=t@t', ...args], { stdio: 'pipe' })

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
    expect(result).toMatchObject({ kind: 'packed', entries: 8, digest: sha256Hex(await readFile(packed)) })
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

  it('outside a repository takes all files but .git and result links, and says so', async () => {
    await write('.gitignore', 'secret')
    await write('secret', 'x')
    await write('results/kept', 'x')
    await write('.git/not-really', 'x')
    await symlink('/nix/store/x', join(dir, 'result'))
    await symlink('/nix/store/x', join(dir, 'result-man'))
    expect(await packTree(dir)).toMatchObject({ entries: 3, notes: [expect.stringContaining('.gitignore')] })
  })
})

describe('a git repository', () => {
  beforeEach(async () => {
    git('init', '-q')
    await write('.gitignore', 'ignored\n')
    await write('fleet.toml', 'x')
    await write('gone', 'x')
    git('add', '-A')
    git('commit', '-qm', 'first')
  })

  it('gives tracked and new files without ignored and deleted ones', async () => {
    await write('ignored', 'x')
    await write('new file', 'x')
    await rm(join(dir, 'gone'))
    expect(await packTree(dir)).toMatchObject({ entries: 3, notes: [] })
  })

  it('is clean, or says what differs', async () => {
    const commit = git('rev-parse', 'HEAD').toString().trim()
    await write('ignored', 'x')
    expect(await gitState(dir)).toEqual({ kind: 'clean', commit })
    await write('new file', 'x')
    await write('fleet.toml', 'y')
    await rm(join(dir, 'gone'))
    expect(await gitState(dir)).toEqual({
      kind: 'dirty',
      commit,
      dirtyFiles: ['fleet.toml', 'gone', 'new file'],
    })
  })

  it('above the fleet directory counts too, with what lies in the directory only', async () => {
    const root = dir
    await write('fleet/flake.nix', '{ }')
    git('add', '-A')
    git('commit', '-qm', 'second')
    await write('outside', 'x')
    expect(await gitState(join(root, 'fleet'))).toMatchObject({ kind: 'clean' })
    await write('fleet/new', 'x')
    expect(await gitState(join(root, 'fleet'))).toMatchObject({ kind: 'dirty', dirtyFiles: ['new'] })
    expect(await packTree(join(root, 'fleet'))).toMatchObject({ entries: 2 })
  })

  it('before its first commit is dirty without a commit, and no repository is none', async () => {
    dir = join(base, String(count++))
    await write('x', 'x')
    expect(await gitState(dir)).toEqual({ kind: 'none' })
    git('init', '-q')
    expect(await gitState(dir)).toEqual({ kind: 'dirty', commit: undefined, dirtyFiles: ['x'] })
  })

  it('with a submodule or a repository inside is refused, naming it', async () => {
    const commit = git('rev-parse', 'HEAD').toString().trim()
    git('update-index', '--add', '--cacheinfo', `160000,${commit},vendor/sub`)
    expect(await packTree(dir)).toMatchObject({
      kind: 'refused',
      reason: expect.stringContaining('vendor/sub'),
    })
    git('update-index', '--force-remove', 'vendor/sub')
    await write('inner/file', 'x')
    execFileSync('git', ['-C', join(dir, 'inner'), 'init', '-q'])
    git('status')
    expect(await packTree(dir)).toMatchObject({ kind: 'refused', reason: expect.stringContaining('inner') })
  })

  it('is an error that names the cure when the program git is missing', async () => {
    const path = join(base, 'bin-without-git')
    await mkdir(path)
    await symlink('/usr/bin/env', join(path, 'env'))
    vi.stubEnv('PATH', path)
    try {
      const result = await packTree(dir)
      expect(result).toMatchObject({ kind: 'refused', reason: expect.stringContaining('install git') })
      dir = join(base, String(count++))
      await write('x', 'x')
      expect(await packTree(dir)).toMatchObject({ kind: 'packed' })
    } finally {
      vi.unstubAllEnvs()
    }
  })

  it('that git cannot read is an error and not the absence of a repository', async () => {
    await writeFile(join(dir, '.git/config'), '[broken')
    expect(await packTree(dir)).toMatchObject({ kind: 'refused', reason: expect.stringContaining('git') })
  })
})

describe('unpacking', () => {
  const good = pack(sortEntries([file('a/b', 'text'), file('a.b', 'more'), link('a/l', 'b')]) as TreeEntry[])

  it('refuses a tree in which any bit is flipped, and leaves nothing behind', async () => {
    const expected = { digest: sha256Hex(good), length: good.length }
    await fc.assert(
      fc.asyncProperty(fc.nat(good.length * 8 - 1), async bit => {
        const bad = Uint8Array.from(good)
        bad[bit >> 3]! ^= 1 << (bit & 7)
        const { check, destination } = await unpack(bad, expected)
        expect(check).toMatchObject({ kind: 'refused', class: 'digest' })
        expect(existsSync(destination)).toBe(false)
      }),
      { numRuns: 50 },
    )
  })

  it('refuses every flipped bit of a header even when the digest was made for it', async () => {
    const bytes = pack([file('a', 'text')])
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const at = bit >> 3
      if (at >= 512 && at < 516) continue // content, which may be anything
      const bad = Uint8Array.from(bytes)
      bad[at]! ^= 1 << (bit & 7)
      const check = await checkTree(chunks(bad), { digest: sha256Hex(bad), length: bad.length })
      expect(check.kind, `bit ${bit}`).toBe('refused')
    }
  })

  it('refuses a tree that is cut, longer, or of another length', async () => {
    const expected = { digest: sha256Hex(good), length: good.length }
    for (const bad of [
      good.subarray(0, -1),
      good.subarray(0, 700),
      Buffer.concat([good, Buffer.alloc(512)]),
    ]) {
      expect((await unpack(bad, expected)).check).toMatchObject({ kind: 'refused', class: 'length' })
      expect((await unpack(bad)).check).toMatchObject({ kind: 'refused', class: 'malformed' })
    }
  })

  it.each<[string, (TreeEntry & { content?: string })[]]>([
    ['an absolute path', [file('/etc/passwd')]],
    ['a path that goes up', [file('../x')]],
    ['a path that goes up in the middle', [file('a/../../x')]],
    ['a path with "."', [file('./x')]],
    ['a path with an empty part', [file('a//b')]],
    ['a path that ends like a folder', [file('a/')]],
    ['a control character', [file('a\u0001')]],
    ['a line break', [file('a\nb')]],
    ['a path that is too deep', [file(`${'d/'.repeat(64)}f`)]],
    ['a path that is too long', [file(Array.from({ length: 21 }, () => 'd'.repeat(200)).join('/'))]],
    ['a name that is too long', [file('n'.repeat(256))]],
    ['a path twice', [file('a'), file('a')]],
    ['paths out of order', [file('b'), file('a')]],
    ['something below a file', [file('a'), file('a/b')]],
    ['something below a link', [link('a', 'b'), file('a/c'), file('b/d')]],
    ['an absolute link', [link('a', '/etc')]],
    ['a link out of the tree', [link('a', '../x')]],
    ['a link out of the tree from below', [link('d/a', '../../x')]],
    ['a link that goes up behind another link', [link('d/e/k', '../..'), link('d/e/l', 'k/../x')]],
    ['an empty link', [link('a', '')]],
    ['a file over the limit', [{ kind: 'file', path: 'a', size: MAX_FILE_BYTES + 1, executable: false }]],
  ])('refuses %s', async (_, entries) => {
    const { check, destination } = await unpack(pack(entries))
    expect(check).toMatchObject({ kind: 'refused', class: 'malformed' })
    expect(existsSync(destination)).toBe(false)
  })

  it.each(['1', '3', '4', '5', '6', '7', 'g', 'L', 'K', 'S', 'V', 'D', '\0'])(
    'refuses an entry of type %j: hard links, devices, pipes, folders, sparse files and foreign headers',
    async type => {
      const bytes = pack([file('a')])
      bytes.write(type, 156, 'latin1')
      bytes.fill(' ', 148, 156)
      const sum = bytes.subarray(0, 512).reduce((total, byte) => total + byte, 0)
      bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1')
      expect((await unpack(bytes)).check).toMatchObject({ kind: 'refused', class: 'malformed' })
    },
  )

  it('refuses archives that other programs write, however harmless', async () => {
    await write('a', 'x')
    const foreign = execFileSync('tar', ['-C', dir, '-cf', '-', 'a'])
    expect((await unpack(foreign)).check).toMatchObject({ kind: 'refused', class: 'malformed' })
  })

  it('refuses more entries or folders than are allowed, while it reads them', async () => {
    async function* headers(count: number, pathOf: (index: number) => string) {
      for (let index = 0; index < count; index++) yield encodeHeader(file(pathOf(index)))
      yield END_OF_TREE
    }
    const number = (index: number) => String(index).padStart(6, '0')
    const expected = { digest: 'a'.repeat(64), length: MAX_TREE_BYTES }
    const folders = (count: number) =>
      checkTree(
        headers(count, index => `${number(index)}/${'d/'.repeat(61)}f`),
        expected,
      )
    expect(await folders(1612)).toMatchObject({ class: 'length' }) // 1612 * 62 folders: only the length is wrong
    expect(await folders(1613)).toMatchObject({
      class: 'malformed',
      reason: expect.stringContaining('folders'),
    })
    const entries = (count: number) => checkTree(headers(count, number), expected)
    expect(await entries(MAX_ENTRIES)).toMatchObject({ class: 'length' })
    expect(await entries(MAX_ENTRIES + 1)).toMatchObject({ class: 'malformed' })
  })

  it('stops a stream that is longer than announced', async () => {
    const check = await checkTree(chunks(good), { digest: sha256Hex(good), length: good.length - 512 })
    expect(check).toMatchObject({ kind: 'refused', class: 'length' })
  })

  it('refuses arbitrary bytes', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 3000 }), async bytes => {
        const check = await checkTree(chunks(bytes), { digest: sha256Hex(bytes), length: bytes.length })
        expect(check.kind).toBe('refused')
      }),
    )
  })

  it('does nothing the second time, and clears up after one that was killed', async () => {
    const packed = join(dir, 'tree.tar')
    await writeFile(packed, good)
    await mkdir(join(dir, '.out.partial/a'), { recursive: true })
    await writeFile(join(dir, '.out.partial/a/b'), 'half')
    const input = {
      digest: sha256Hex(good),
      length: good.length,
      file: packed,
      destination: join(dir, 'out'),
    }
    expect(await unpackTree(input)).toEqual({ kind: 'ok' })
    expect(await readFile(join(dir, 'out/a/b'), 'utf8')).toBe('text')
    await rm(packed)
    expect(await unpackTree(input)).toEqual({ kind: 'ok' })
    expect((await readdir(dir)).sort()).toEqual(['out'])
  })

  it('never writes through a link that waits in the place of the destination', async () => {
    await symlink(base, join(dir, 'out'))
    await writeFile(join(dir, 'tree.tar'), good)
    const input = {
      digest: sha256Hex(good),
      length: good.length,
      file: join(dir, 'tree.tar'),
      destination: join(dir, 'out'),
    }
    await expect(unpackTree(input)).rejects.toThrow('no folder')
  })

  it('agrees with the packer on any names and contents, in chunks of any size', async () => {
    const part = fc.constantFrom('a', 'b', 'a.b', 'a-b', 'ä', '日本', 'x'.repeat(90))
    const path = fc.array(part, { minLength: 1, maxLength: 4 }).map(parts => parts.join('/'))
    await fc.assert(
      fc.asyncProperty(
        fc.dictionary(path, fc.string({ maxLength: 2000 })),
        fc.integer({ min: 1, max: 3000 }),
        async (tree, size) => {
          const paths = Object.keys(tree)
          const clean = paths.filter(one => !paths.some(other => one.startsWith(`${other}/`)))
          const entries = clean.map(one => ({ ...file(one, tree[one]), content: tree[one]! }))
          const bytes = pack(sortEntries(entries))
          const check = await checkTree(chunks(bytes, size), {
            digest: sha256Hex(bytes),
            length: bytes.length,
          })
          expect(check).toEqual({ kind: 'ok' })
        },
      ),
    )
  })
})

describe('receiving', () => {
  const good = pack([file('a', 'x'.repeat(5000))])
  const expected = { digest: sha256Hex(good), length: good.length }

  it('continues an interrupted download', async () => {
    const path = join(dir, 'tree.tar')
    async function* broken() {
      yield good.subarray(0, 2000)
      throw new Error('connection lost')
    }
    await expect(receiveTree({ ...expected, file: path, openSource: broken })).rejects.toThrow(
      'connection lost',
    )
    const offsets: number[] = []
    const openSource = (offset: number) => {
      offsets.push(offset)
      return chunks(good.subarray(offset))
    }
    expect(await receiveTree({ ...expected, file: path, openSource })).toEqual({ kind: 'ok' })
    expect(await receiveTree({ ...expected, file: path, openSource })).toEqual({ kind: 'ok' })
    expect(offsets).toEqual([2000])
    expect((await readFile(path)).equals(good)).toBe(true)
  })

  it('never takes more than was announced, and keeps nothing that is wrong', async () => {
    const path = join(dir, 'tree.tar')
    let sent = 0
    async function* endless() {
      for (;;) {
        sent += 1000
        yield Buffer.alloc(1000)
      }
    }
    const check = await receiveTree({ ...expected, file: path, openSource: endless })
    expect(check).toMatchObject({ kind: 'refused', class: 'length' })
    expect(sent).toBeLessThan(good.length + 2000)
    expect(existsSync(path)).toBe(false)
    const other = Buffer.from(good).fill('y', 600, 700)
    const wrong = await receiveTree({ ...expected, file: path, openSource: () => chunks(other) })
    expect(wrong).toMatchObject({ kind: 'refused', class: 'digest' })
    expect(existsSync(path)).toBe(false)
  })

  it('says when the stream ends too early, and refuses what no tree may be', async () => {
    const path = join(dir, 'tree.tar')
    const short = () => chunks(good.subarray(0, 100))
    await expect(receiveTree({ ...expected, file: path, openSource: short })).rejects.toThrow(
      'ended after 100',
    )
    const huge = { ...expected, length: 2 ** 40 }
    expect(await receiveTree({ ...huge, file: path, openSource: short })).toMatchObject({ class: 'length' })
  })
})
