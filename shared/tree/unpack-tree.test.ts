import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { sha256Hex } from '../ids.ts'
import { checkTree } from './receive-tree.ts'
import { END_OF_TREE, encodeHeader } from './tar-header.ts'
import { chunks, file, link, pack, writeIn } from './testing/sample-tree.ts'
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
const write = (path: string, content: string | Buffer, mode?: number) => writeIn(dir, path, content, mode)
async function unpack(bytes: Uint8Array, expected = { digest: sha256Hex(bytes), length: bytes.length }) {
  const packed = join(base, `${count++}.tar`)
  await writeFile(packed, bytes)
  const destination = join(base, `${count++}-out`)
  const check = await unpackTree({ ...expected, file: packed, destination })
  return { check, destination }
}

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
