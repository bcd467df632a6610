import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ScriptedUnits } from '../operation/testing/scripted-units.ts'
import { createRealSystem } from '../system/real-system.ts'
import {
  hasLeftLists,
  isEmpty,
  readLists,
  recordLists,
  takeBackLists,
  tidyLists,
  tidyListsFor,
} from './lists.ts'

describe('lists that an interrupted switch left', () => {
  const known: Readonly<Record<string, { active: boolean | undefined; inTarget: boolean }>> = {
    'up.service': { active: true, inTarget: true },
    'down.service': { active: false, inTarget: true },
    'unasked.service': { active: undefined, inTarget: true },
    'leaving.service': { active: true, inTarget: false },
    'gone.service': { active: false, inTarget: false },
  }
  const units = Object.keys(known)
  const describeUnit = (unit: string) => known[unit] ?? { active: undefined, inTarget: false }

  it('A3: lose the entry of the reload list that would end every later run in its middle', () => {
    const tidied = tidyLists({ start: [], restart: [], reload: units }, describeUnit)
    expect(tidied).toEqual({
      reload: ['up.service'],
      // Started instead, which is harmless for a unit that runs.
      start: ['down.service', 'unasked.service'],
      restart: [],
    })
  })

  it('lose what the next system does not have, and nothing else', () => {
    const kept = ['up.service', 'down.service', 'unasked.service']
    expect(tidyLists({ start: units, restart: units, reload: [] }, describeUnit)).toEqual({
      start: kept,
      restart: kept,
      reload: [],
    })
  })

  it('end as what is safe, whatever stood in them; tidying twice changes nothing more', () => {
    const list = fc.uniqueArray(fc.constantFrom(...units))
    fc.assert(
      fc.property(fc.record({ start: list, restart: list, reload: list }), lists => {
        const once = tidyLists(lists, describeUnit)
        for (const unit of once.reload) expect(known[unit]).toEqual({ active: true, inTarget: true })
        for (const unit of [...once.start, ...once.restart]) expect(known[unit]?.inTarget).toBe(true)
        expect(new Set(once.start).size).toBe(once.start.length)
        // What the target has and was to be acted on still is.
        const acted = new Set([...once.start, ...once.restart, ...once.reload])
        for (const unit of [...lists.start, ...lists.restart, ...lists.reload]) {
          expect(acted.has(unit)).toBe(known[unit]?.inTarget)
        }
        expect(tidyLists(once, describeUnit)).toEqual(once)
      }),
    )
  })
})

describe('the lists of a machine', () => {
  let root: string
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'lists-'))
    await mkdir(join(root, 'run/nixos'), { recursive: true })
    for (const name of ['web.service', 'getty@.service', 'a.b.service']) {
      await mkdir(join(root, 'next/etc/systemd/system'), { recursive: true })
      await writeFile(join(root, 'next/etc/systemd/system', name), '')
    }
  })
  afterAll(() => rm(root, { recursive: true }))

  it('are put right on disk before a run, for the system that is switched to', async () => {
    const system = createRealSystem({ root: '/', path: '/usr/bin' })
    const units = new ScriptedUnits(system)
    units.isActive = async (name?: string) => name === 'web.service'
    const put = (name: string, entries: readonly string[]) =>
      writeFile(join(root, 'run/nixos', name), entries.map(entry => `${entry}\n`).join(''))
    expect(await tidyListsFor({ system, units, root }, join(root, 'next'))).toBeUndefined()
    await put('reload-list', ['web.service', 'old.service', 'a.b.service'])
    await put('start-list', [
      'getty@tty1.service',
      'getty@10.0.0.1.service',
      'multi-user.target',
      'home.mount',
      '../etc/passwd.service',
    ])
    await put('restart-list', ['old.service'])
    const told = await tidyListsFor({ system, units, root }, join(root, 'next'))
    expect(told).toContain('9 entries, 6 kept')
    expect(await readLists(system, root)).toEqual({
      start: [
        ...['getty@tty1.service', 'getty@10.0.0.1.service', 'multi-user.target', 'home.mount', 'a.b.service'],
      ],
      restart: [],
      reload: ['web.service'],
    })
    await expect(readFile(join(root, 'run/nixos/restart-list'))).rejects.toThrow(/ENOENT/)
    expect(isEmpty(await readLists(system, join(root, 'other')))).toBe(true)
  })
})

describe('the lists of one run', () => {
  it('are told from what lay there before it, and taken away when it changed nothing', async () => {
    const root = await mkdtemp(join(tmpdir(), 'lists-'))
    const system = createRealSystem({ root: '/', path: '' })
    const folder = join(root, 'run/nixos')
    const slot = join(root, 'slot')
    try {
      await mkdir(folder, { recursive: true })
      await writeFile(join(folder, 'start-list'), 'kept.service\n')
      await recordLists(system, root, slot)
      expect(await hasLeftLists(system, root, slot)).toBe(false)
      expect(await takeBackLists(system, root, slot)).toBeUndefined()
      await writeFile(join(folder, 'start-list'), 'kept.service\nmore.service\n')
      await writeFile(join(folder, 'reload-list'), 'wedge.service\n')
      expect(await hasLeftLists(system, root, slot)).toBe(true)
      expect(await takeBackLists(system, root, slot)).toContain('were taken away')
      expect(await readLists(system, root)).toEqual({ start: ['kept.service'], restart: [], reload: [] })
      // Too long to be written down: told from another, and left alone.
      const many = Array.from({ length: 500 }, (_, n) => `unit-${n}.service`)
      await writeFile(join(folder, 'start-list'), many.join('\n'))
      await recordLists(system, root, slot)
      expect(await hasLeftLists(system, root, slot)).toBe(false)
      await writeFile(join(folder, 'restart-list'), 'x.service\n')
      expect(await takeBackLists(system, root, slot)).toContain('stay')
      expect((await readLists(system, root)).restart).toEqual(['x.service'])
    } finally {
      await rm(root, { recursive: true, force: true })
    }
  })
})
