import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ARM_MODES, type ArmRecord, parseArmRecord, readArmRecord, writeArmRecord } from './arm-record.ts'
import { armFolder } from './operation-folder.ts'

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'arm-'))
})
afterAll(() => rm(dir, { recursive: true }))

const word = fc.string({ minLength: 1, maxLength: 30, unit: 'binary' }).filter(isWellFormed)
function isWellFormed(text: string): boolean {
  return Buffer.from(text).toString('utf8') === text
}
const record: fc.Arbitrary<ArmRecord> = fc.record({
  operation: word,
  round: fc.integer({ min: 1, max: 99 }),
  mode: fc.constantFrom(...ARM_MODES),
  target: word,
  previous: word,
  profile: word,
  generation: fc.option(fc.nat(), { nil: undefined }),
  bootId: word,
  confirmMs: fc.nat(),
  switchMs: fc.nat(),
  program: fc.array(word, { minLength: 1, maxLength: 3 }),
  toolPath: word,
  systemRoot: word,
  units: fc.constantFrom('systemd', 'processes'),
})

describe('T20: the record of what is armed', () => {
  it('reads back as it was written, by the one codec that arms and returns', async () => {
    const folder = armFolder(dir, 'op', 1)
    await mkdir(folder.path, { recursive: true })
    await fc.assert(
      fc.asyncProperty(record, async arm => {
        await writeArmRecord(folder, arm)
        expect(await readArmRecord(folder)).toEqual({ kind: 'armed', record: arm })
      }),
      { numRuns: 30 },
    )
  })

  it('is refused, by name, when any part of it is missing or of another kind', () => {
    const [sample] = fc.sample(
      record.map(arm => ({ ...arm, generation: 3 })),
      { numRuns: 1, seed: 1 },
    )
    const whole: Record<string, unknown> = { v: 1, ...sample }
    expect(parseArmRecord(JSON.stringify(whole))).toEqual(sample)
    for (const name of Object.keys(whole)) {
      const rest = Object.fromEntries(Object.entries(whole).filter(([field]) => field !== name))
      // A profile may name a system without a generation.
      if (name === 'generation') parseArmRecord(JSON.stringify(rest))
      else expect(() => parseArmRecord(JSON.stringify(rest)), name).toThrow(new RegExp(`^${name}: `))
      for (const wrong of [null, '', -1, 1.5, {}, [], [1], true]) {
        expect(() => parseArmRecord(JSON.stringify({ ...whole, [name]: wrong })), name).toThrow(
          new RegExp(`^${name}: `),
        )
      }
    }
    for (const text of ['', 'null', '[]', '7', '{"v":2}']) expect(() => parseArmRecord(text)).toThrow()
  })

  it('says which container runtime restarts with it, or is refused', async () => {
    const [sample] = fc.sample(record, { numRuns: 1, seed: 2 })
    if (!sample) throw new Error('no sample')
    const folder = armFolder(dir, 'runtime', 1)
    await mkdir(folder.path, { recursive: true })
    const units = ['containerd.service']
    for (const runtime of [
      { units, endpoint: 'unix:///run/containerd/containerd.sock', network: true, node: false },
      { units, network: false, node: true },
    ]) {
      await writeArmRecord(folder, { ...sample, runtime })
      expect(await readArmRecord(folder)).toEqual({ kind: 'armed', record: { ...sample, runtime } })
    }
    for (const wrong of [null, [], 'x', { units: ['x'] }, { units }, { units, network: true }]) {
      const text = JSON.stringify({ v: 1, ...sample, runtime: wrong })
      expect(() => parseArmRecord(text), text).toThrow(/^runtime/)
    }
  })

  it('of version 1 is read as that version wrote it, whatever a later one writes', () => {
    const text =
      '{"v":1,"operation":"op","round":1,"mode":"switch","target":"/n","previous":"/o","profile":"/o","generation":3,"bootId":"b","confirmMs":5,"switchMs":6,"program":["/node","/agent"],"toolPath":"/bin","systemRoot":"/","units":"systemd"}\n'
    expect(parseArmRecord(text)).toEqual({
      operation: 'op',
      round: 1,
      mode: 'switch',
      target: '/n',
      previous: '/o',
      profile: '/o',
      generation: 3,
      bootId: 'b',
      confirmMs: 5,
      switchMs: 6,
      program: ['/node', '/agent'],
      toolPath: '/bin',
      systemRoot: '/',
      units: 'systemd',
    })
  })

  it('of a newer version says who wrote it, and no more is taken from it', async () => {
    const folder = armFolder(dir, 'newer', 1)
    await mkdir(folder.path, { recursive: true })
    const core = {
      operation: 'newer',
      round: 1,
      mode: 'sideways',
      target: '/n',
      previous: '/o',
      program: ['/newer/agent'],
      toolPath: '/bin',
      systemRoot: '/',
      units: 'systemd',
    }
    const write = async (record: object) => {
      await writeFile(join(folder.path, 'arm.json'), JSON.stringify(record))
      return await readArmRecord(folder)
    }
    expect(await write({ v: 2, ...core, profile: { of: 'another kind' } })).toEqual({
      kind: 'newer',
      core,
      reason: expect.stringMatching(/arm\.json: a newer agent wrote it \(v: 2, this one knows 1\)$/),
    })
    // Who does not even say that is damaged, and so is a version that is none.
    for (const name of Object.keys(core)) {
      expect(await write({ v: 2, ...core, [name]: undefined }), name).toMatchObject({ kind: 'unreadable' })
    }
    for (const v of [0, -1, 1.5, '2', null, undefined]) {
      expect(await write({ ...core, v }), String(v)).toMatchObject({ kind: 'unreadable' })
    }
  })

  it('that is missing is told from one that cannot be read', async () => {
    const folder = armFolder(dir, 'other', 1)
    expect(await readArmRecord(folder)).toEqual({ kind: 'missing' })
    await mkdir(folder.path, { recursive: true })
    await writeFile(join(folder.path, 'arm.json'), '{"v":1}')
    expect(await readArmRecord(folder)).toMatchObject({
      kind: 'unreadable',
      reason: expect.stringMatching(/arm\.json: program: must be a list/),
    })
  })
})
