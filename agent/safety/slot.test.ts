import { mkdtemp, open, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hasBtrfs, hasSmallDisks, runOnBtrfs, runOnSmallDisk } from '../operation/testing/small-disk.ts'
import { clearSlot, MOST_SLOT_JSON_BYTES, readSlot, reserveSlot, SLOT_BYTES, writeSlot } from './slot.ts'

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'slot-'))
})
afterAll(() => rm(dir, { recursive: true }))

let count = 0
async function reserved(): Promise<string> {
  count += 1
  const path = join(dir, `slot-${count}`)
  await reserveSlot(path)
  return path
}

describe('a slot', () => {
  it('is told missing, empty and whole apart, and gives back what was written', async () => {
    const path = join(dir, 'first')
    expect(await readSlot(path)).toEqual({ kind: 'missing' })
    await reserveSlot(path)
    expect(await readSlot(path)).toEqual({ kind: 'empty' })
    await writeSlot(path, { a: [1, 'ü'] })
    expect(await readSlot(path)).toEqual({ kind: 'value', value: { a: [1, 'ü'] } })
    await clearSlot(path)
    expect(await readSlot(path)).toEqual({ kind: 'empty' })
  })

  it('keeps what it holds when it is reserved again', async () => {
    const path = await reserved()
    await writeSlot(path, 'kept')
    await reserveSlot(path)
    expect(await readSlot(path)).toEqual({ kind: 'value', value: 'kept' })
  })

  it('is written in place: its block is taken once, and never another', async () => {
    const path = await reserved()
    const before = await stat(path)
    for (const value of ['x', 'y'.repeat(3_000), null, { z: 1 }]) {
      await writeSlot(path, value)
      const after = await stat(path)
      expect([after.ino, after.size, after.blocks]).toEqual([before.ino, SLOT_BYTES, before.blocks])
    }
    await clearSlot(path)
    expect((await stat(path)).size).toBe(SLOT_BYTES)
  })

  it('takes no value that is too long, and none where nothing was reserved', async () => {
    const path = await reserved()
    await writeSlot(path, 'before')
    await expect(writeSlot(path, 'x'.repeat(MOST_SLOT_JSON_BYTES))).rejects.toThrow(/do not fit into a slot/)
    expect(await readSlot(path)).toEqual({ kind: 'value', value: 'before' })
    await writeSlot(path, 'x'.repeat(MOST_SLOT_JSON_BYTES - 2))
    await expect(writeSlot(join(dir, 'none'), 1)).rejects.toThrow(/was not reserved/)
    await expect(clearSlot(join(dir, 'none'))).rejects.toThrow(/was not reserved/)
  })

  it('T34: that cannot be read is damaged, not empty', async () => {
    expect(await readSlot(dir)).toMatchObject({ kind: 'damaged' })
  })

  it('torn anywhere while it is overwritten holds the old value, the new one, or is told to be damaged', async () => {
    const path = await reserved()
    const whole = async (value: unknown) => {
      if (value === undefined) await clearSlot(path)
      else await writeSlot(path, value)
      return await readFile(path)
    }
    await fc.assert(
      fc.asyncProperty(
        fc.option(fc.jsonValue({ maxDepth: 2 }), { nil: undefined }),
        fc.jsonValue({ maxDepth: 2 }),
        fc.integer({ min: 0, max: SLOT_BYTES }),
        async (old, fresh, cut) => {
          const bytes = [await whole(old), await whole(fresh)] as const
          // Blocks of the device reach it in any order: either side of the cut may be the new one.
          for (const [head, tail] of [bytes, bytes.toReversed()] as [Buffer, Buffer][]) {
            await writeFile(path, Buffer.concat([head.subarray(0, cut), tail.subarray(cut)]))
            const reading = await readSlot(path)
            if (reading.kind === 'damaged') continue
            const json = reading.kind === 'value' ? JSON.stringify(reading.value) : undefined
            expect([old, fresh].map(value => JSON.stringify(value))).toContain(json)
          }
        },
      ),
      { numRuns: 150 },
    )
  })

  it('cut short is damaged', async () => {
    const path = await reserved()
    await writeSlot(path, { kind: 'confirmed' })
    const handle = await open(path, 'r+')
    await handle.truncate(80)
    await handle.close()
    expect(await readSlot(path)).toMatchObject({ kind: 'damaged' })
  })
})

it.skipIf(!hasSmallDisks)(
  'T60: all that a round may have to write can be written on a full disk',
  async () => {
    const small = await mkdtemp(join(tmpdir(), 'small-'))
    const program = join(import.meta.dirname, 'fixtures/fill-disk.ts')
    expect(runOnSmallDisk(small, '512k', program, [])).toEqual([
      ...['full ENOSPC', 'mark 4', 'end returned', 'verdict no room'],
    ])
    await rm(small, { recursive: true })
  },
)

describe.skipIf(!hasBtrfs)('on a full btrfs', () => {
  const onBtrfs = async (attribute: '+C' | 'none') => {
    const disk = await mkdtemp(join(tmpdir(), 'btrfs-'))
    try {
      return runOnBtrfs(disk, attribute, join(import.meta.dirname, 'fixtures/fill-disk.ts'))
    } finally {
      await rm(disk, { recursive: true })
    }
  }

  it('what a round must write is written, without copy on write', async () => {
    expect(await onBtrfs('+C')).toEqual({
      lines: ['full ENOSPC', 'mark 4', 'end returned', 'verdict no room'],
      status: 0,
      stderr: '',
    })
  }, 180_000)

  it('it is not with copy on write, which the NixOS module takes away for that', async () => {
    const { lines, status, stderr } = await onBtrfs('none')
    expect([lines, status]).toEqual([['full ENOSPC'], 1])
    expect(stderr).toContain('ENOSPC')
  }, 180_000)
})
