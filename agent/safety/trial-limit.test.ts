import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { bootAnew, NEW, OLD, sampleMachine } from '../operation/testing/sample-machine.ts'
import { ScriptedUnits } from '../operation/testing/scripted-units.ts'
import type { RebootHow } from '../units/units.ts'
import { ARM_MODES, type ArmMode, type ArmRecord } from './arm-record.ts'
import { writeDeadline } from './deadline.ts'
import { armFolder, prepareArmFolder } from './operation-folder.ts'
import { sampleArm } from './testing/sample-arm.ts'
import { endUnseenTrial, isUnseenTrial } from './trial-limit.ts'
import { readBootTime } from './uptime.ts'
import { prepareClaims, type Verdict } from './verdict.ts'

let stateDir: string
beforeAll(async () => {
  stateDir = await mkdtemp(join(tmpdir(), 'limit-'))
})
afterAll(() => rm(stateDir, { recursive: true }))

const arm = (mode: ArmMode = 'trial'): ArmRecord => ({ ...sampleArm, mode })

it('only a boot into what is tried is limited, until the dead man has seen it', () => {
  const verdict: Verdict = { kind: 'none' }
  const trial = { arm: arm(), verdict, bootId: 'boot-2', booted: NEW, armedFor: 'boot-1' }
  expect(isUnseenTrial(trial)).toBe(true)
  expect(isUnseenTrial({ ...trial, armedFor: undefined })).toBe(true)
  expect(isUnseenTrial({ ...trial, armedFor: 'boot-2' })).toBe(false)
  expect(isUnseenTrial({ ...trial, booted: OLD })).toBe(false)
  expect(isUnseenTrial({ ...trial, booted: undefined })).toBe(false)
  expect(isUnseenTrial({ ...trial, verdict: { kind: 'confirmed' } })).toBe(false)
  // Without an entry of its own that is booted once, another boot leads to the same place.
  for (const mode of ARM_MODES) expect(isUnseenTrial({ ...trial, arm: arm(mode) })).toBe(mode === 'trial')
})

describe('a trial boot', () => {
  let rounds = 0
  async function booted() {
    rounds += 1
    const system = sampleMachine()
    const units = new ScriptedUnits(system)
    const asked: string[] = []
    units.reboot = async (how?: RebootHow) => {
      asked.push(how ?? 'as anybody orders it')
      return { kind: 'started' }
    }
    const folder = armFolder(stateDir, 'op', rounds)
    await prepareArmFolder(folder, stateDir)
    await prepareClaims(folder)
    await writeDeadline(folder, { ...(await readBootTime(system)), of: 'proof' })
    bootAnew(system, NEW)
    const said: string[] = []
    const watch = (limitMs: number, signal = new AbortController().signal) =>
      endUnseenTrial({ system, units }, folder, arm(), {
        until: performance.now() + limitMs,
        say: line => said.push(line),
        signal,
        lookMs: 5,
        orderlyMs: 5,
      })
    return { system, units, folder, asked, said, watch }
  }

  it('that the dead man never sees is ended by another boot, by force where what runs does not stop', async () => {
    const { asked, said, watch } = await booted()
    await watch(20)
    expect(asked).toEqual(['past-locks', 'force'])
    expect(said.join()).toContain('did not get as far as the dead man in time')
  })

  it('that is refused another boot is ended by force at once', async () => {
    const { units, asked, watch } = await booted()
    units.reboot = async (how?: RebootHow) => {
      asked.push(how ?? 'as anybody orders it')
      return how === 'force' ? { kind: 'started' } : { kind: 'failed', reason: 'no bus' }
    }
    await watch(0)
    expect(asked).toEqual(['past-locks', 'force'])
  })

  it('is left alone from the moment that the dead man has seen it', async () => {
    const { system, folder, asked, watch } = await booted()
    const watched = watch(600_000)
    await writeDeadline(folder, { ...(await readBootTime(system)), of: 'proof' })
    await watched
    expect(asked).toEqual([])
  })

  it('is not ended by a unit that is stopped', async () => {
    const { asked, watch } = await booted()
    await watch(600_000, AbortSignal.abort())
    expect(asked).toEqual([])
  })
})
