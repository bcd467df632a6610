import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { build } from './build.mjs'

const SECONDS = 1_700_000_123

/** Every file of the programs with its text, built somewhere else each time. */
async function builtAt(seconds: number): Promise<ReadonlyMap<string, string>> {
  const out = await mkdtemp(join(tmpdir(), 'muster-build-'))
  try {
    await build({ out, env: { SOURCE_DATE_EPOCH: String(seconds) } })
    const entries = await readdir(out, { recursive: true, withFileTypes: true })
    const paths = entries.filter(entry => entry.isFile()).map(entry => join(entry.parentPath, entry.name))
    const files = await Promise.all(
      paths.map(async path => [path.slice(out.length), await readFile(path, 'utf8')] as const),
    )
    return new Map(files)
  } finally {
    await rm(out, { recursive: true })
  }
}

it('programs built of the same sources are the same, and the agent knows when those were written', async () => {
  const [one, two] = [await builtAt(SECONDS), await builtAt(SECONDS)]
  expect([...one.keys()]).toContain('/agent.mjs')
  expect(two).toEqual(one)
  const stamped = [...one].filter(([, text]) => text.includes(String(SECONDS))).map(([path]) => path)
  expect(stamped).toEqual([expect.stringMatching(/^\/agent[./]/)])
}, 60_000)
