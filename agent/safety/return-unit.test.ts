import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { sampleMachine } from '../operation/testing/sample-machine.ts'
import { ScriptedUnits } from '../operation/testing/scripted-units.ts'
import { type ArmRecord, writeArmRecord } from './arm-record.ts'
import { armFolder, prepareArmFolder } from './operation-folder.ts'
import { armDeadMan, BROKEN_OFF, returnUnit, runReturn } from './return-unit.ts'
import { sampleArm } from './testing/sample-arm.ts'
import { readBootTime } from './uptime.ts'

let stateDir: string
beforeAll(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'arm-'))
})
afterAll(() => rm(stateDir, { recursive: true }))

const arm: ArmRecord = { ...sampleArm, systemRoot: '/', units: 'systemd' }

it.each<[string, boolean, string | undefined]>([
  ['a timer that waits already', true, undefined],
  ['a unit that no timer will ever start', false, 'a unit muster-return-op-1 is there, but no timer of it'],
])('N2: a dead man is armed for what it finds: %s', async (_, active, problem) => {
  const system = sampleMachine()
  const units = new ScriptedUnits(system)
  const folder = armFolder(stateDir, 'op', 1)
  await prepareArmFolder(folder, stateDir)
  const again = { stateDir, now: await readBootTime(system), afterMs: 60_000 }
  await units.startTimer({ ...returnUnit(folder, arm, stateDir), afterMs: 60_000 })
  units.isActive = async () => active
  expect(await armDeadMan(units, folder, arm, again)).toBe(problem)
  await units.cut()
})

it('a way back that breaks off before its end is on record is begun again, and one that failed for good is not', async () => {
  const target = { stateDir, operation: 'broken', round: 1 }
  const { signal } = new AbortController()
  expect(await runReturn(target, signal, 0)).toBe(1)
  // Armed, but nothing can be claimed: its folder has no claims, as where a disk gives what was written back no more.
  const folder = armFolder(stateDir, 'broken', 1)
  await prepareArmFolder(folder, stateDir)
  await writeArmRecord(folder, { ...arm, operation: 'broken', units: 'processes' })
  expect(await runReturn(target, signal, 0)).toBe(BROKEN_OFF)
  expect(returnUnit(folder, arm, stateDir).restarts).toEqual({ alsoOnExitCode: BROKEN_OFF })
})
