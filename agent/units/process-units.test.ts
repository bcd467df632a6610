import { spawnSync } from 'node:child_process'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readEndMark, readStartMark } from '../safety/marks.ts'
import { reserveSlot } from '../safety/slot.ts'
import { processUnits } from './process-units.ts'
import type { UnitSpec, Units } from './units.ts'

// Real processes of the agent's own program.
const agent = [process.execPath, '--import', 'tsx', join(import.meta.dirname, '../main.ts')]
const GONE_MS = 20_000

let home: string
let units: Units
beforeAll(async () => {
  home = await mkdtemp(join(tmpdir(), 'units-'))
  units = processUnits({
    folder: join(home, 'units'),
    home,
    program: agent,
    path: '/usr/bin:/bin',
    env: {},
    restartAgent: async () => {},
  })
})
afterAll(() => rm(home, { recursive: true, force: true }))

let count = 0
async function unit(script: string) {
  count += 1
  const number = count
  const mark = (which: string) => join(home, `${which}-${number}`)
  for (const which of ['start', 'end']) await reserveSlot(mark(which))
  const spec: UnitSpec = {
    name: `unit-${count}`,
    description: 'x',
    command: ['/bin/sh', '-c', script],
    before: [...agent, 'mark', 'start', mark('start')],
    after: [...agent, 'mark', 'end', mark('end')],
  }
  return { spec, end: () => readEndMark(mark('end')), start: () => readStartMark(mark('start')) }
}
const gone = (name: string) =>
  expect.poll(async () => (await units.state(name)).kind, { timeout: GONE_MS }).toBe('gone')

describe('a unit of a simulated machine', () => {
  it('N1, N2: outlives the agent that is killed, and writes its own marks', async () => {
    const { spec, start, end } = await unit('sleep 2; echo done; exit 4')
    const program = join(import.meta.dirname, 'fixtures/start-unit.ts')
    const args = ['--import', 'tsx', program, home, JSON.stringify(agent), JSON.stringify(spec)]
    const ran = spawnSync(process.execPath, args, { encoding: 'utf8' })
    expect([ran.stdout, ran.signal]).toEqual(['started', 'SIGKILL'])
    expect((await units.state(spec.name)).kind).toBe('running')
    expect(await units.start(spec)).toEqual({ kind: 'taken' })
    expect((await end()).kind).toBe('unmarked')
    await gone(spec.name)
    expect((await start()).kind).toBe('marked')
    expect(await end()).toMatchObject({ mark: { result: 'exit-code', code: 'exited', status: '4' } })
    expect((await units.output(spec.name, undefined, true)).lines.map(({ text }) => text)).toEqual(['done'])
  })

  it('T31: is stopped with all of its processes, also those that do not listen', async () => {
    const pidFile = join(home, 'child')
    const { spec, end } = await unit(`(trap '' TERM; echo $$ > ${pidFile}; sleep 60) & sleep 60`)
    await units.start(spec)
    const pid = () => readFile(pidFile, 'utf8').then(Number, () => 0)
    await expect.poll(pid, { timeout: GONE_MS }).toBeGreaterThan(0)
    expect(await units.stop(spec.name, GONE_MS)).toEqual({ kind: 'gone' })
    const group = spawnSync('ps', ['-eo', 'args'], { encoding: 'utf8' }).stdout
    expect(group).not.toContain(pidFile)
    expect(await units.stop(spec.name, 10)).toEqual({ kind: 'gone' })
    expect(['marked', 'unmarked']).toContain((await end()).kind)
  })

  it('is started by its timer, or before it, and not by one that was taken away', async () => {
    const first = await unit('true')
    await units.startTimer({ ...first.spec, afterMs: 1_500 })
    expect((await units.state(first.spec.name)).kind).toBe('gone')
    expect((await first.start()).kind).toBe('unmarked')
    const second = await unit('sleep 1')
    await units.startTimer({ ...second.spec, afterMs: 600_000 })
    expect(await units.startLoaded(second.spec.name)).toEqual({ kind: 'started' })
    const third = await unit('true')
    await units.startTimer({ ...third.spec, afterMs: 1_000 })
    await units.stopTimer(third.spec.name)
    expect(await units.startLoaded(third.spec.name)).toMatchObject({ kind: 'failed' })
    for (const { end } of [first, second]) {
      await expect.poll(async () => (await end()).kind, { timeout: GONE_MS }).toBe('marked')
    }
    expect((await third.start()).kind).toBe('unmarked')
    // What a timer has started is a unit like any other, which nobody takes away with the timer.
    const fired = await unit('sleep 4')
    await units.startTimer({ ...fired.spec, afterMs: 200 })
    await expect.poll(async () => (await fired.start()).kind, { timeout: GONE_MS }).toBe('marked')
    expect((await units.state(fired.spec.name)).kind).toBe('running')
    expect(await units.startLoaded(fired.spec.name)).toEqual({ kind: 'started' })
    await units.stopTimer(fired.spec.name)
    await expect.poll(async () => (await fired.end()).kind, { timeout: GONE_MS }).toBe('marked')
    expect(await fired.end()).toMatchObject({ mark: { result: 'success', status: '0' } })
  })
})
