import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { sampleMachine } from '../operation/testing/sample-machine.ts'
import { ScriptedUnits } from '../operation/testing/scripted-units.ts'
import { writeStartMark } from './marks.ts'
import { armFolder, prepareArmFolder, slotPath } from './operation-folder.ts'
import { unitName, watchSwitch } from './switch-unit.ts'
import { readBootTime } from './uptime.ts'

it('N6: gives a switch no more time because the agent was started anew in the middle', async () => {
  const stateDir = await mkdtemp(join(tmpdir(), 'watch-'))
  try {
    const system = sampleMachine()
    const units = new ScriptedUnits(system)
    const folder = armFolder(stateDir, 'op', 1)
    await prepareArmFolder(folder, stateDir)
    const name = unitName('switch', folder)
    system.scripts.set('/hangs', () => new Promise(() => {}))
    await units.start({ name, description: '', command: ['/hangs'] })
    const { bootId, uptimeMs } = await readBootTime(system)
    const doors = { system, units, root: '/', say: () => {} }
    const watch = (limitMs: number, signal: AbortSignal) =>
      watchSwitch(doors, folder, 'switch', limitMs, signal)
    // Of another boot it says nothing: then it has all its time.
    await writeStartMark(slotPath(folder, 'switch.start'), new Date(), {
      bootId: 'other',
      uptimeMs: -3_600_000,
    })
    expect(await watch(3_600_500, AbortSignal.timeout(1_500))).toBeUndefined()
    await writeStartMark(slotPath(folder, 'switch.start'), new Date(), {
      bootId,
      uptimeMs: uptimeMs - 3_600_000,
    })
    const seen = await watch(3_600_500, AbortSignal.timeout(20_000))
    expect(seen).toMatchObject({
      began: true,
      end: undefined,
      overdue: expect.stringContaining('nothing is known'),
    })
  } finally {
    await rm(stateDir, { recursive: true })
  }
})
