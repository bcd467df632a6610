import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { packTree } from './pack-tree.ts'
import { unpackTree } from './unpack-tree.ts'

const FILES = 400

it('a tree appears whole or not at all, wherever the unpacking process is killed', async () => {
  const base = await mkdtemp(join(tmpdir(), 'muster-killed-'))
  try {
    const source = join(base, 'source')
    await mkdir(source)
    for (let index = 0; index < FILES; index++)
      await writeFile(join(source, `file-${index}`), `content ${index}`)
    const file = join(base, 'tree.tar')
    const packed = await packTree(source, file)
    if (packed.kind !== 'packed') throw new Error(packed.reason)
    const { digest, length } = packed
    const destination = join(base, 'out')
    const partial = join(base, '.out.partial')
    const script = `
      import { unpackTree } from ${JSON.stringify(join(import.meta.dirname, 'unpack-tree.ts'))}
      await unpackTree(${JSON.stringify({ digest, length, file, destination })})
    `
    const filesIn = async (folder: string) => (existsSync(folder) ? (await readdir(folder)).length : 0)
    for (const killAt of [1, 100, 300]) {
      await rm(destination, { recursive: true, force: true })
      await rm(partial, { recursive: true, force: true })
      const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
        cwd: import.meta.dirname,
        stdio: 'inherit',
      })
      const ended = once(child, 'exit')
      await expect
        .poll(async () => existsSync(destination) || (await filesIn(partial)) >= killAt, {
          interval: 1,
          timeout: 30_000,
        })
        .toBe(true)
      child.kill('SIGKILL')
      await ended
      expect([0, FILES]).toContain(await filesIn(destination))
      expect(await unpackTree({ digest, length, file, destination })).toEqual({ kind: 'ok' })
      expect(await filesIn(destination)).toBe(FILES)
      expect(existsSync(partial)).toBe(false)
    }
  } finally {
    await rm(base, { recursive: true, force: true })
  }
})
