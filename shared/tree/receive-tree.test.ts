import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { sha256Hex } from '../ids.ts'
import { receiveTree } from './receive-tree.ts'
import { chunks, file, pack } from './testing/sample-tree.ts'

const base = await mkdtemp(join(tmpdir(), 'muster-tree-'))
afterAll(() => rm(base, { recursive: true }))
let count = 0
let dir: string
beforeEach(async () => {
  dir = join(base, String(count++))
  await mkdir(dir)
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
