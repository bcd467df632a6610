import { mkdirSync, utimesSync, writeFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { isForChange, KEPT_FOR_CHANGES, nameForChange } from '../../shared/kubernetes/snapshot-name.ts'
import { type DriverFixture, makeDriver } from './testing/driver-fixture.ts'

const WAIT = { deadlineMs: 2_000, everyMs: 20 }
const FOLDER = '/state/snapshots'
const NOW = new Date('2026-11-28T12:00:00Z')
const idOf = (index: number) => `0m5x8q2k${index % 10}-${String(index).padStart(12, '0')}`

async function controller(): Promise<DriverFixture> {
  let made!: DriverFixture
  made = await makeDriver({ distribution: 'k0s' }, [
    [
      /^k0s backup/,
      ({ line }) => {
        writeFileSync(`${made.root}${/--save-path[= ](\S+)/.exec(line)?.[1]}/k0s_backup_1.tar.gz`, 'archive')
        return ''
      },
    ],
  ])
  return made
}

/** A copy that lies there since so many minutes. */
function lay({ root }: DriverFixture, name: string, minutes: number): void {
  const folder = `${root}${FOLDER}/${name}`
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  writeFileSync(`${folder}/k0s_backup_0.tar.gz`, 'older')
  const at = new Date(NOW.getTime() - minutes * 60_000)
  for (const path of [`${folder}/k0s_backup_0.tar.gz`, folder]) utimesSync(path, at, at)
}

describe('copies of the datastore that were made on the way to changes', () => {
  it('stay to a number, the newest of them, and an operator’s all stay', async () => {
    await using made = await controller()
    const names = Array.from({ length: 30 }, (_, index) =>
      nameForChange(index % 2 === 0 ? 'rollout' : 'before', idOf(index)),
    )
    for (const [index, name] of names.entries()) lay(made, name, 10 * (index + 1))
    const own = ['by-hand-20261128-110000', 'before-1-35', 'rollout-of-1-35']
    for (const name of own) lay(made, name, 10_000)
    const name = nameForChange('rollout', idOf(99))
    expect(await made.driver.cluster.snapshot(name, WAIT)).toMatchObject({ kind: 'done', value: { name } })
    expect(await made.files.list(FOLDER)).toHaveLength(KEPT_FOR_CHANGES + own.length)
    const listed = await made.driver.cluster.listSnapshots()
    expect(listed.kind === 'done' && listed.value.map(each => each.name).toSorted()).toEqual(
      [name, ...names.slice(0, KEPT_FOR_CHANGES - 1), ...own].toSorted(),
    )
  })

  it('are not touched when an operator has one made', async () => {
    await using made = await controller()
    for (let index = 0; index < 30; index++) lay(made, nameForChange('before', idOf(index)), index)
    expect(await made.driver.cluster.snapshot('first', WAIT)).toMatchObject({ kind: 'done' })
    expect(await made.files.list(FOLDER)).toHaveLength(31)
  })

  it('go too where one was begun and never ended, but not what may be made right now', async () => {
    await using made = await controller()
    lay(made, `${nameForChange('rollout', idOf(1))}.partial`, 61)
    lay(made, `${nameForChange('rollout', idOf(2))}.partial`, 59)
    lay(made, 'mine.partial', 600)
    const name = nameForChange('before', idOf(3))
    expect(await made.driver.cluster.snapshot(name, WAIT)).toMatchObject({ kind: 'done' })
    expect((await made.files.list(FOLDER)).toSorted()).toEqual(
      ['mine.partial', name, `${nameForChange('rollout', idOf(2))}.partial`].toSorted(),
    )
  })

  it('are listed and made however many there are', async () => {
    await using made = await controller()
    for (let index = 0; index < 1_001; index++) lay(made, `mine-${index}`, index)
    const listed = await made.driver.cluster.listSnapshots()
    expect(listed.kind === 'done' && listed.value.length).toBe(1_001)
    expect(await made.driver.cluster.snapshot('one-more', WAIT)).toMatchObject({ kind: 'done' })
  })

  it('are told from an operator’s by the id in their name', () => {
    for (const name of ['rollout-1', 'before-1-35', 'by-hand-20261128-110000', 'before-0m5x8q2k1'])
      expect(isForChange(name)).toBe(false)
    expect(isForChange(nameForChange('rollout', idOf(1)))).toBe(true)
  })
})
