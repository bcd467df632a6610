import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, describe, expect, it } from 'vitest'
import { isCacheName, type Part, readExport, readPart, unpackCache, writeExport } from './export-file.ts'

const folder = await mkdtemp(join(tmpdir(), 'muster-export-'))
afterAll(() => rm(folder, { recursive: true, force: true }))
const path = join(folder, 'sample')
await writeExport(path, async add => {
  await add('envelope', '', Buffer.from('signed'))
  await add('tree', 'd', Buffer.alloc(200_000, 7))
  await add('cache', 'nix-cache-info', Buffer.from('StoreDir: /nix/store\n'))
  await add('cache', `nar/${'a'.repeat(52)}.nar.xz`, Buffer.from('nar'))
})

async function whole(part: Part | undefined): Promise<Buffer> {
  const chunks: Buffer[] = []
  if (part) for await (const chunk of readPart(path, part)) chunks.push(chunk)
  return Buffer.concat(chunks)
}

describe('an export', () => {
  it('gives back what was put in', async () => {
    const parts = await readExport(path)
    expect(parts.map(({ kind, size }) => [kind, size])).toEqual([
      ['envelope', 6],
      ['tree', 200_000],
      ['cache', 21],
      ['cache', 3],
    ])
    expect((await whole(parts[0])).toString()).toBe('signed')
    expect((await whole(parts[1])).equals(Buffer.alloc(200_000, 7))).toBe(true)
  })

  it('is refused when any byte is another or is missing', async () => {
    const bytes = await readFile(path)
    const bad = join(folder, 'bad')
    await fc.assert(
      fc.asyncProperty(fc.nat(bytes.length - 1), fc.boolean(), async (at, cut) => {
        const copy = Buffer.from(bytes)
        copy[at]! ^= 1
        await writeFile(bad, cut ? bytes.subarray(0, at) : copy)
        await expect(readExport(bad)).rejects.toThrow(/damaged|no export/)
      }),
      { numRuns: 40, examples: [[bytes.length - 3, false]] },
    )
  })

  it('never replaces a file, and leaves none behind when it fails', async () => {
    await expect(writeExport(path, async () => {})).rejects.toThrow('is there already')
    const failing = join(folder, 'failing')
    const notReached = async () => {
      throw new Error('was remembered before it was written')
    }
    await expect(
      writeExport(
        failing,
        async () => {
          throw new Error('no')
        },
        notReached,
      ),
    ).rejects.toThrow('no')
    expect((await readdir(folder)).filter(name => name.startsWith('failing'))).toEqual([])
  })

  it('is seen by nobody before what must be remembered is, and is whole by then', async () => {
    const file = join(folder, 'remembered')
    let before: string[] = []
    let parts: readonly Part[] = []
    await writeExport(
      file,
      add => add('envelope', '', Buffer.from('signed')),
      async () => {
        before = (await readdir(folder)).filter(name => name.startsWith('remembered'))
        parts = await readExport(`${file}.partial`)
      },
    )
    expect(before).toEqual(['remembered.partial'])
    expect(parts).toHaveLength(1)
    expect(await readExport(file)).toHaveLength(1)
  })

  it('unpacks a cache, and refuses names that lead elsewhere', async () => {
    const out = join(folder, 'cache')
    expect(await unpackCache(path, await readExport(path), out)).toBe(2)
    expect(await readFile(join(out, 'nix-cache-info'), 'utf8')).toContain('StoreDir')
    for (const name of ['../x', '/etc/passwd', 'nar/../../x', 'nar/x/y', '', 'log/../x', 'nar/..']) {
      expect(isCacheName(name)).toBe(false)
    }
    const evil = join(folder, 'evil')
    await writeExport(evil, async add => add('cache', '../escaped', Buffer.from('x')))
    await expect(unpackCache(evil, await readExport(evil), out)).rejects.toThrow('none of a binary cache')
  })
})
