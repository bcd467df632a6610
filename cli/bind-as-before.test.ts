import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { exitCodes } from './exit-codes.ts'
import { runMuster } from './testing/run-muster.ts'
import { type SmallCoordinator, sampleMachine, startSmallCoordinator } from './testing/small-coordinator.ts'

const [A, B, C] = ['a', 'b', 'c'].map(letter => letter.repeat(64)) as [string, string, string]

let coordinator: SmallCoordinator
const asBefore = (...words: string[]) =>
  runMuster(['bind', '--as-before', ...words], { settings: { socket: coordinator.socket } })
const hosts = () => coordinator.machines.map(({ host }) => host)
const says = (reason: string) => ({ conditions: [{ class: 'acted-as', reason }] })

beforeAll(async () => {
  coordinator = await startSmallCoordinator()
})
afterAll(() => coordinator[Symbol.asyncDispose]())
beforeEach(() => {
  coordinator.machines.splice(
    0,
    coordinator.machines.length,
    sampleMachine({ id: A, host: 'olaf' }),
    sampleMachine({
      id: B,
      host: '',
      actedAs: 'nils',
      admittedBy: 'operator local',
      ...says('acted as nils'),
    }),
    sampleMachine({ id: C, host: '' }),
  )
})

describe('bind --as-before', () => {
  it('shows who says what, and binds nobody before --yes is said', async () => {
    const shown = await asBefore()
    expect(shown.code).toBe(exitCodes.refused.code)
    expect(shown.out).toMatch(/nils +bbbbbbbbbbbb .*operator local/)
    expect(shown.out).not.toContain('cccccccccccc')
    expect(shown.err).toContain('a machine can say any name')
    expect(hosts()).toEqual(['olaf', '', ''])
    const done = await asBefore('--yes', '-o', 'json')
    expect(done.code).toBe(0)
    expect(JSON.parse(done.out)).toMatchObject([{ host: 'nils', machine: B, bound: true, reason: '' }])
    expect(hosts()).toEqual(['olaf', 'nils', ''])
    expect(await asBefore('--yes')).toMatchObject({ code: 0 })
  })

  it('binds nobody where two say the same, tells it, and binds the others', async () => {
    coordinator.machines.push(sampleMachine({ id: 'd'.repeat(64), host: '', ...says('so does machine eee') }))
    const done = await asBefore('--yes')
    expect(done).toMatchObject({ code: exitCodes.conflict.code, err: expect.stringContaining('1 machine') })
    expect(done.out).toContain('so does machine eee')
    expect(hosts()).toEqual(['olaf', 'nils', '', ''])
  })

  it('goes with nothing but --yes', async () => {
    for (const words of [['--all'], ['olaf'], ['--dry-run'], ['-d', 'home']]) {
      expect((await asBefore(...words)).code).toBe(exitCodes.usage.code)
    }
    const lone = await runMuster(['bind', 'olaf', 'aa', '--yes'], {
      settings: { socket: coordinator.socket },
    })
    expect(lone.code).toBe(exitCodes.usage.code)
  })
})
