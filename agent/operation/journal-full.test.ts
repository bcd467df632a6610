import { spawnSync } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { Journal } from './journal.ts'
import { hasSmallDisks, runOnSmallDisk } from './testing/small-disk.ts'

it('T60: cuts off what a full disk left of a record, so that the next ones do not turn it into damage', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'full-'))
  try {
    const script = join(import.meta.dirname, 'fixtures/fill-journal.ts')
    // 4 blocks of 512 bytes; without the trap the signal for the limit would end the program.
    const limited = `trap '' XFSZ; ulimit -f 4; exec "$@"`
    const child = [process.execPath, '--import', 'tsx', script, dir, '100,5000,100,100']
    const { stdout, stderr } = spawnSync('sh', ['-c', limited, 'sh', ...child], { encoding: 'utf8' })
    expect({ lines: stdout.trim().split('\n'), stderr }).toEqual({
      lines: ['kept 1', 'failed EFBIG', 'kept 2', 'kept 3'],
      stderr: '',
    })
    expect((await readFile(join(dir, 'journal.jsonl'), 'utf8')).split('\n')).toHaveLength(4)
    await using journal = await Journal.open(dir, { now: () => new Date(0) }, () => new Set())
    expect(journal.records.map(({ sequence }) => sequence)).toEqual([1, 2, 3])
  } finally {
    await rm(dir, { recursive: true })
  }
})

it.skipIf(!hasSmallDisks)(
  'T60: writes what was accepted and what failed on a disk that is full, and accepts no more',
  async () => {
    const dir = await mkdtemp(join(tmpdir(), 'reserve-'))
    const script = join(import.meta.dirname, 'fixtures/reserve-journal.ts')
    expect(runOnSmallDisk(dir, '1m', script, [])).toEqual([
      ...['full ENOSPC', 'full ENOSPC', 'remembered 1', 'kept 20'],
      'refused no room for the records of an operation',
    ])
    await rm(dir, { recursive: true })
  },
)
