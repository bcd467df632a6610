import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import { bootAnew, sampleMachine } from '../operation/testing/sample-machine.ts'
import type { ScriptedSystem } from '../operation/testing/scripted-system.ts'
import { ScriptedUnits } from '../operation/testing/scripted-units.ts'
import { ARM_MODES, type ArmMode, type ArmRecord } from './arm-record.ts'
import { readDeadline, writeDeadline } from './deadline.ts'
import { type ArmFolder, armFolder, prepareArmFolder } from './operation-folder.ts'
import { type BootFinding, judgeAtBoot, returnNewer, settleAtBoot } from './rearm-at-boot.ts'
import type { ReturnEnd } from './return-end.ts'
import { sampleArm } from './testing/sample-arm.ts'
import { readBootTime } from './uptime.ts'
import { prepareClaims, readVerdict, type Verdict } from './verdict.ts'

const OLD = '/nix/store/old'
const NEW = '/nix/store/new'

const arm = (mode: ArmMode): ArmRecord => ({
  ...sampleArm,
  mode,
  target: NEW,
  previous: OLD,
  profile: OLD,
  systemRoot: '/',
  units: 'systemd',
})
const returned: Verdict = { kind: 'returned', claim: { by: 'deadline' } }
const untouched: Verdict = {
  kind: 'untouched',
  class: OutcomeClass.BUSY,
  refusal: '',
  reason: '',
  exitCode: 11,
}
const booting = (bootId: string): ReturnEnd => ({ kind: 'booting', bootId, reason: '' })

const finding = (change: Partial<BootFinding> = {}): BootFinding => ({
  arm: arm('trial'),
  verdict: { kind: 'none' },
  end: undefined,
  bootId: 'boot-2',
  booted: NEW,
  armedFor: 'boot-1',
  ...change,
})

describe('a boot that finds an armed change', () => {
  it.each<[string, Partial<BootFinding>, string]>([
    ['gives the new system that it tries its time', {}, 'arm'],
    ['also where it was promoted and the machine fell over', { arm: arm('switch') }, 'arm'],
    ['takes it back when the old system came up', { booted: OLD }, 'claim-and-return'],
    ['takes it back when a third one came up', { booted: '/nix/store/x' }, 'claim-and-return'],
    ['takes it back when nobody can tell what came up', { booted: undefined }, 'claim-and-return'],
    [
      'takes it back at the second boot without a word',
      { bootId: 'boot-3', armedFor: 'boot-2' },
      'claim-and-return',
    ],
    ['takes it back when nobody can tell whether it was armed', { armedFor: undefined }, 'claim-and-return'],
    ['gives no time twice in one boot', { armedFor: 'boot-2' }, 'keep'],
    ['takes it back at once where only a newer agent can read it', { arm: undefined }, 'claim-and-return'],
    ['also in the boot that armed it', { arm: undefined, armedFor: 'boot-2' }, 'claim-and-return'],
    ['leaves alone what is confirmed', { verdict: { kind: 'confirmed' } }, 'nothing'],
    ['leaves alone what was never touched', { verdict: untouched }, 'nothing'],
    ['walks on a way back that was cut', { verdict: returned }, 'return'],
    ['walks on one that waited for this boot', { verdict: returned, end: booting('boot-1') }, 'return'],
    ['waits for one that waits for the next', { verdict: returned, end: booting('boot-2') }, 'nothing'],
    ['leaves one that ended', { verdict: returned, end: { kind: 'returned', reason: '' } }, 'nothing'],
    [
      'leaves one that failed to who looks at it',
      { verdict: returned, end: { kind: 'failed', reason: '', exitCode: undefined } },
      'nothing',
    ],
    [
      'takes back what was decided and cannot be read',
      { verdict: { kind: 'unreadable', reason: 'x' }, armedFor: 'boot-2' },
      'return',
    ],
  ])('%s', (_, change, step) => {
    expect(judgeAtBoot(finding(change)).kind).toBe(step)
  })

  it('T52: gives time once, only to the system that was to be tried, and never leaves an open change alone', () => {
    const boots = fc.constantFrom('boot-1', 'boot-2', 'boot-3')
    const arbitrary = fc.record({
      arm: fc.option(fc.constantFrom(...ARM_MODES).map(arm), { nil: undefined }),
      verdict: fc.constantFrom<Verdict>(
        ...[{ kind: 'none' } as const, { kind: 'confirmed' } as const, returned, untouched],
        { kind: 'unreadable', reason: '' },
      ),
      end: fc.oneof(
        fc.constant(undefined),
        boots.map(booting),
        fc.constant<ReturnEnd>({ kind: 'returned', reason: '' }),
      ),
      bootId: boots,
      booted: fc.constantFrom(OLD, NEW, undefined),
      armedFor: fc.option(boots, { nil: undefined }),
    })
    fc.assert(
      fc.property(arbitrary, given => {
        const step = judgeAtBoot(given)
        const { verdict, bootId, armedFor, booted } = given
        if (verdict.kind === 'confirmed' || verdict.kind === 'untouched') expect(step.kind).toBe('nothing')
        if (step.kind === 'arm') {
          expect([booted, armedFor, verdict.kind]).toEqual([NEW, given.arm?.bootId, 'none'])
          expect(armedFor).not.toBe(bootId)
        }
        if (verdict.kind === 'none') expect(step.kind).not.toBe('nothing')
        if (step.kind === 'keep') expect(armedFor).toBe(bootId)
        if (step.kind === 'claim-and-return') expect(verdict.kind).toBe('none')
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('what a boot does about an armed change', () => {
  let stateDir: string
  let system: ScriptedSystem
  let units: ScriptedUnits
  let folder: ArmFolder
  let record: ArmRecord
  beforeEach(async () => {
    stateDir = await mkdtemp(join(tmpdir(), 'rearm-'))
    system = sampleMachine()
    units = new ScriptedUnits(system)
    folder = armFolder(stateDir, 'op', 1)
    const now = await readBootTime(system)
    record = { ...arm('trial'), bootId: now.bootId, confirmMs: 60_000, systemRoot: '/root' }
    await prepareArmFolder(folder, stateDir)
    await prepareClaims(folder)
    await writeDeadline(folder, { ...now, uptimeMs: now.uptimeMs + 50_000, of: 'proof' })
  })
  afterEach(async () => {
    await units.cut()
    await rm(stateDir, { recursive: true })
  })
  const settle = () => settleAtBoot({ system, units }, folder, record, stateDir, () => {})
  /** Has the service manager start nothing, so often. */
  const refuseTimers = (times: number) => {
    const start = units.startTimer.bind(units)
    units.startTimer = async unit => {
      times -= 1
      return times >= 0 ? { kind: 'failed', reason: 'the bus does not answer' } : await start(unit)
    }
    units.start = async () => ({ kind: 'failed', reason: 'the bus does not answer' })
  }

  it('is begun again where the dead man could not be armed, and gives no more time for that', async () => {
    bootAnew(system, NEW)
    refuseTimers(1)
    expect(await settle()).toBe(false)
    const first = await readDeadline(folder)
    expect(units.armed).toEqual([])
    expect(await settle()).toBe(true)
    expect(units.armed).toEqual(['muster-return-op-1'])
    expect(await readDeadline(folder)).toEqual(first)
  })

  it('arms anew what a soft reboot ended, whose boot is the same, with the time that is left', async () => {
    const before = await readDeadline(folder)
    let afterMs = 0
    const start = units.startTimer.bind(units)
    units.startTimer = async unit => {
      afterMs = unit.afterMs
      return await start(unit)
    }
    expect(await settle()).toBe(true)
    expect(units.armed).toEqual(['muster-return-op-1'])
    expect(afterMs).toBeGreaterThan(0)
    expect(afterMs).toBeLessThanOrEqual(50_000)
    expect(await readDeadline(folder)).toEqual(before)
    // And changes nothing where the timer is there.
    expect(await settle()).toBe(true)
  })

  it('has a newer program, which armed it, walk back where this one cannot read it', async () => {
    bootAnew(system, NEW)
    const commands: (readonly string[])[] = []
    units.start = async unit => {
      commands.push(unit.command)
      return { kind: 'started' }
    }
    const newer = { ...record, program: ['/newer/agent'] }
    expect(await returnNewer({ system, units }, folder, newer, stateDir, () => {})).toBe(true)
    expect(commands).toEqual([
      ['/newer/agent', 'return', '--state-dir', stateDir, '--operation', 'op', '--round', '1'],
    ])
    expect(await readVerdict(folder)).toEqual({ kind: 'returned', claim: { by: 'boot' } })
    // Also where its claims lie elsewhere; and again and again until it starts.
    await rm(join(folder.path, 'verdict'))
    await rm(join(folder.path, 'claim.boot'))
    expect(await returnNewer({ system, units }, folder, newer, stateDir, () => {})).toBe(true)
    expect(commands).toHaveLength(2)
    refuseTimers(0)
    expect(await returnNewer({ system, units }, folder, newer, stateDir, () => {})).toBe(false)
  })

  it('has the way back itself wait where of the timer only the name is left', async () => {
    units.startTimer = async () => ({ kind: 'taken' })
    units.isActive = async () => false
    expect(await settle()).toBe(true)
    expect(units.started).toEqual(['muster-return-op-1'])
  })
})
