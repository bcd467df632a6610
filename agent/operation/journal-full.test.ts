import { spawnSync } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { Journal } from './journal.ts'
import { hasBtrfs, hasSmallDisks, runOnBtrfs, runOnSmallDisk } from './testing/small-disk.ts'

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

it.skipIf(!hasBtrfs)(
  'T60: does so on a full btrfs as well, which frees what is given up only with its next commit',
  async () => {
    const dir = await mkdtemp(join(tmpdir(), 'btrfs-'))
    const script = join(import.meta.dirname, 'fixtures/reserve-journal.ts')
    expect(runOnBtrfs(dir, '+C', script)).toEqual({
      lines: [
        ...['full ENOSPC', 'full ENOSPC', 'remembered 1', 'kept 20'],
        'refused no room for the records of an operation',
      ],
      status: 0,
      stderr: '',
    })
    await rm(dir, { recursive: true })
  },
  180_000,
)

it.skipIf(!hasSmallDisks)('T60: starts on a disk that is full, again and again', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'lock-'))
  const script = join(import.meta.dirname, 'fixtures/lock-full.ts')
  expect(runOnSmallDisk(dir, '1m', script, [])).toEqual(['full', 'locked 2', 'full', 'locked 3'])
  await rm(dir, { recursive: true })
})

it.skipIf(!hasSmallDisks)(
  'T60: opens what it keeps on a disk that is full once it is enrolled, also in a boot that has to be counted, and enrols on none',
  async () => {
    const dir = await mkdtemp(join(tmpdir(), 'start-'))
    const script = join(import.meta.dirname, 'fixtures/start-full.ts')
    const said = runOnSmallDisk(dir, '1m', script, [])
    expect(said.slice(0, -1)).toEqual([
      ...['started in boot 1', 'full', 'started in boot 1'],
      ...['started in boot 2', 'started in boot 2', 'started in boot 3'],
      ...['started in boot 3', 'started in boot 4', 'full', 'started in boot 4'],
    ])
    expect(said.at(-1)).toMatch(/ENOSPC/)
    await rm(dir, { recursive: true })
  },
)

it.skipIf(!hasSmallDisks)(
  'T60: opens a journal that is too large for a full disk to be made smaller, and goes on with it',
  async () => {
    const dir = await mkdtemp(join(tmpdir(), 'large-'))
    const script = join(import.meta.dirname, 'fixtures/large-journal.ts')
    expect(runOnSmallDisk(dir, '2m', script, [])).toEqual([
      ...['full', 'trouble ENOSPC', 'opened 130 false'],
      ...['trouble ENOSPC', 'kept 131'],
    ])
    await rm(dir, { recursive: true })
  },
)
