import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect, it } from 'vitest'
import { packTree } from '../../../shared/tree/pack-tree.ts'
import { manifestDigests } from './tree-manifests.ts'

/** The digests of a fleet directory with these files. */
async function digestsOf(files: Readonly<Record<string, string>>): Promise<ReadonlyMap<string, string>> {
  const dir = await mkdtemp(join(tmpdir(), 'muster-manifests-'))
  try {
    for (const [path, text] of Object.entries(files)) {
      await mkdir(dirname(join(dir, 'd', path)), { recursive: true })
      await writeFile(join(dir, 'd', path), text)
    }
    const packed = await packTree(join(dir, 'd'), join(dir, 'tree'))
    if (packed.kind === 'refused') throw new Error(packed.reason)
    const bytes = await readFile(join(dir, 'tree'))
    const blobs = {
      async *read() {
        yield bytes
      },
    }
    return await manifestDigests(blobs, {
      digest: createHash('sha256').update(bytes).digest('hex'),
      length: bytes.length,
    })
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
}

it('manifests are told apart by cluster, name and content, and by nothing else of the tree', async () => {
  const base = { 'manifests/home/a.yaml': 'one', 'manifests/home/b.yaml': 'two', 'fleet.toml': 'x' }
  const home = (await digestsOf(base)).get('home')
  expect(home).toMatch(/^[0-9a-f]{64}$/)
  const other = await digestsOf({ ...base, 'fleet.toml': 'y', 'manifests/far/a.yaml': 'one' })
  expect(other.get('home')).toBe(home)
  expect([...other.keys()].sort()).toEqual(['far', 'home'])
  for (const changed of [
    { ...base, 'manifests/home/a.yaml': 'One' },
    { ...base, 'manifests/home/c.yaml': '' },
    { 'manifests/home/a.yaml': 'onetwo', 'manifests/home/b.yaml': '' },
    { 'manifests/home/a.yaml': 'one', 'manifests/home/c.yaml': 'two' },
  ]) {
    expect((await digestsOf(changed)).get('home')).not.toBe(home)
  }
  expect((await digestsOf({ 'fleet.toml': 'x', 'manifests/readme': 'none' })).size).toBe(0)
})
