import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import {
  BOOTED,
  bootAnew,
  bootDefault,
  CURRENT,
  goodSwitch,
  loaderDefault,
  NEW,
  OLD,
  PROFILE,
  sampleMachine,
  startNewest,
  switchProgram,
} from '../operation/testing/sample-machine.ts'
import type { Script, ScriptedSystem } from '../operation/testing/scripted-system.ts'
import { ScriptedUnits } from '../operation/testing/scripted-units.ts'
import type { System } from '../system/system.ts'
import { type ArmMode, type ArmRecord, writeArmRecord } from './arm-record.ts'
import { writeDeadline } from './deadline.ts'
import { holderOf, holdForChange } from './kubernetes-hold.ts'
import { writeStartMark } from './marks.ts'
import { type ArmFolder, armFolder, prepareArmFolder, slotPath } from './operation-folder.ts'
import { readReturnEnd } from './return-end.ts'
import { switchUnit } from './switch-unit.ts'
import { sampleArm } from './testing/sample-arm.ts'
import { readBootTime } from './uptime.ts'
import {
  beginPromotion,
  claimConfirmed,
  claimReturned,
  claimUntouched,
  prepareClaims,
  readVerdict,
} from './verdict.ts'
import { restoreBootDefault, walkBack } from './walk-back.ts'

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'back-'))
})
afterAll(() => rm(dir, { recursive: true }))

let system: ScriptedSystem
let units: ScriptedUnits
let folder: ArmFolder
let stateDir: string
let arm: ArmRecord
let said: string[]
let count = 0

/** A machine on which a round is armed and nothing else was done. */
async function armed(mode: ArmMode = 'switch'): Promise<void> {
  count += 1
  stateDir = join(dir, String(count))
  system = sampleMachine()
  system.scripts.set('bootctl', () => ({}))
  units = new ScriptedUnits(system)
  said = []
  folder = armFolder(stateDir, 'op', 1)
  arm = {
    ...sampleArm,
    mode,
    confirmMs: 1_000,
    switchMs: 2_000,
    program: ['/usr/bin/muster-agent'],
    toolPath: '/usr/bin',
  }
  await prepareArmFolder(folder, stateDir)
  await prepareClaims(folder)
  await writeArmRecord(folder, arm)
  await due(60_000)
}
beforeEach(() => armed())

async function due(inMs: number, of: 'proof' | 'promotion' = 'proof'): Promise<void> {
  const { bootId, uptimeMs } = await readBootTime(system)
  await writeDeadline(folder, { bootId, uptimeMs: uptimeMs + inMs, of })
}

const decided = () => claimReturned(folder, { by: 'agent', class: OutcomeClass.UNKNOWN, reason: 'x' })
const walk = (signal = new AbortController().signal, door: System = system) =>
  walkBack({ system: door, units, say: line => said.push(line), signal, stateDir }, folder, arm)
const state = () => ({ current: system.links.get(CURRENT), profile: bootDefault(system) })
const old = { current: OLD, profile: OLD }

/** What the forward switch leaves: the mark that it began, and perhaps the new system and its profile. */
async function switched(promoted = false): Promise<void> {
  await writeStartMark(slotPath(folder, 'switch.start'), new Date(), undefined)
  system.links.set(CURRENT, NEW)
  if (promoted) await system.scripts.get('nix-env')?.(['-p', PROFILE, '--set', NEW], undefined)
}

describe('the way back', () => {
  it('is not walked where the change is confirmed, or touched nothing', async () => {
    await switched(true)
    await claimConfirmed(folder)
    expect(await walk()).toBe('nothing')
    expect(state()).toEqual({ current: NEW, profile: NEW })
    await armed()
    await claimUntouched(folder, { class: OutcomeClass.BUSY, refusal: '', reason: 'x', exitCode: 11 })
    expect(await walk()).toBe('nothing')
    expect(system.commands).toEqual([])
  })

  it('is tried again when something breaks on it, such as a full /run', async () => {
    await switched(true)
    await decided()
    let looks = 0
    const door: System = Object.create(system, {
      run: { value: (...args: Parameters<System['run']>) => system.run(...args) },
      readLink: {
        value: async (path: string) => {
          looks += 1
          if (looks === 1) throw new Error('ENOSPC: no space left on device')
          return await system.readLink(path)
        },
      },
    })
    expect(await walk(undefined, door)).toEqual({ kind: 'returned', reason: `runs ${OLD} again` })
    expect(said.join()).toContain('the way back broke off: ENOSPC')
    expect(state()).toEqual(old)
  })

  it('A6, N4, N5, T29: leads to the recorded path by its own program, never one generation back', async () => {
    await switched(true)
    await decided()
    expect(await walk()).toEqual({ kind: 'returned', reason: `runs ${OLD} again` })
    expect(state()).toEqual(old)
    expect(system.commands).toEqual([
      ...[`${switchProgram(OLD)} test`, `${switchProgram(OLD)} boot`],
      `nix-env -p ${PROFILE} --switch-generation 1`,
    ])
    // The same order once more leads to the same place, by nothing at all.
    system.commands.length = 0
    expect(await walk()).toMatchObject({ kind: 'returned' })
    expect([state(), system.commands]).toEqual([old, []])
  })

  it('lets the old Kubernetes start again at its end, without an agent', async () => {
    const facts = {
      cluster: 'home',
      distribution: 'k3s',
      role: 'server',
      life: 'with-system',
      apiPort: 6443,
      servers: {},
      certificateNames: [],
      units: ['k3s.service'],
      programs: [],
    }
    system.files.set('/etc/muster/cluster.json', JSON.stringify(facts))
    system.scripts.set('systemctl', () => ({}))
    await holdForChange(stateDir, 'op')
    await switched()
    expect(await holderOf(stateDir)).toBe('op')
    await decided()
    expect(await walk()).toMatchObject({ kind: 'returned' })
    expect(await holderOf(stateDir)).toBeUndefined()
    expect(system.commands.at(-1)).toBe('systemctl start --no-block k3s.service')
  })

  it('T29: does not touch a profile that never moved', async () => {
    await switched()
    await decided()
    await walk()
    expect(state()).toEqual(old)
    expect(system.commands).toEqual([`${switchProgram(OLD)} test`])
  })

  it('has nothing to do where nothing was begun', async () => {
    await decided()
    expect(await walk()).toMatchObject({ kind: 'returned' })
    expect(system.commands).toEqual([])
  })

  it('switches back also where only the beginning was marked: half of it may be done', async () => {
    await writeStartMark(slotPath(folder, 'switch.start'), new Date(), undefined)
    await decided()
    expect(await walk()).toMatchObject({ kind: 'returned' })
    expect(system.commands).toEqual([`${switchProgram(OLD)} test`])
  })

  it('sets profile and boot loader by path where its generation is gone, as after nix-collect-garbage -d', async () => {
    await switched(true)
    await system.run(switchProgram(NEW), ['boot'], {})
    await decided()
    system.links.delete(`${PROFILE}-1-link`)
    expect(await walk()).toMatchObject({ kind: 'returned' })
    expect(state()).toEqual(old)
    // The installer makes no default of a system without a generation, and says nothing.
    expect(loaderDefault(system)).toBe(OLD)
  })

  it('writes the boot loader also where it was killed between a profile that had to be made first and that', async () => {
    await switched(true)
    await system.run(switchProgram(NEW), ['boot'], {})
    await decided()
    await system.scripts.get('nix-env')?.(['-p', PROFILE, '--set', OLD], undefined)
    expect([bootDefault(system), loaderDefault(system)]).toEqual([OLD, NEW])
    expect(await walk()).toMatchObject({ kind: 'returned' })
    expect([state(), loaderDefault(system)]).toEqual([old, OLD])
  })

  it('is whole where the boot partition takes no write and starts the old system as it is', async () => {
    await switched(true)
    await decided()
    const readOnly =
      (toplevel: string): Script =>
      args =>
        args[0] === 'boot'
          ? { exitCode: 1, stderr: ['Read-only file system'] }
          : goodSwitch(system, toplevel)(args, undefined)
    system.scripts.set(switchProgram(OLD), readOnly(OLD))
    expect(await walk()).toMatchObject({ kind: 'returned' })
    expect([state(), loaderDefault(system)]).toEqual([old, OLD])
    expect(said.join()).toContain('Read-only file system')
    // Where it starts the new one, that is no way back that has come to its end.
    await armed()
    await switched(true)
    await system.run(switchProgram(NEW), ['boot'], {})
    system.scripts.set(switchProgram(OLD), readOnly(OLD))
    expect(await restoreBootDefault({ system, say: line => said.push(line) }, arm)).toContain('Read-only')
  })

  it('leaves alone what somebody switched to by hand while nothing of the change had begun', async () => {
    const byHand = `/nix/store/${'9'.repeat(32)}-by-hand`
    system.links.set(CURRENT, byHand)
    await system.scripts.get('nix-env')?.(['-p', PROFILE, '--set', byHand], undefined)
    await decided()
    expect(await walk()).toMatchObject({
      kind: 'returned',
      reason: expect.stringContaining(`${byHand} runs, to which somebody else switched`),
    })
    expect(state()).toEqual({ current: byHand, profile: byHand })
    expect(system.commands).toEqual([])
    // Once it had, what ran before is what is known to be good.
    await armed()
    await writeStartMark(slotPath(folder, 'switch.start'), new Date(), undefined)
    system.links.set(CURRENT, byHand)
    await decided()
    expect(await walk()).toMatchObject({ kind: 'returned' })
    expect(state()).toEqual(old)
  })
})

describe('the way back waits', () => {
  it('until the deadline, and no longer', async () => {
    await switched()
    const startedMs = performance.now()
    await due(700)
    expect(await walk()).toMatchObject({ kind: 'returned' })
    expect(performance.now() - startedMs).toBeGreaterThan(600)
    expect(await readVerdict(folder)).toEqual({ kind: 'returned', claim: { by: 'deadline' } })
  })

  it('and gives way to a confirmation that comes before it', async () => {
    await switched()
    await due(60_000)
    const walked = walk()
    await claimConfirmed(folder)
    expect(await walked).toBe('nothing')
    expect(state().current).toBe(NEW)
  })

  it('for a promotion that began in time, by the deadline of that', async () => {
    await switched()
    // Longer than any machine takes to begin it.
    await due(1_500)
    const walked = walk()
    await due(60_000, 'promotion')
    await beginPromotion(folder)
    await new Promise(resolve => setTimeout(resolve, 1_800))
    expect(await readVerdict(folder)).toEqual({ kind: 'none' })
    await claimConfirmed(folder)
    expect(await walked).toBe('nothing')
  })

  it('not in another boot, nor for a deadline that cannot be read: its timer waited long enough', async () => {
    await switched()
    bootAnew(system)
    expect(await walk()).toMatchObject({ kind: 'returned' })
    await armed()
    await writeFile(slotPath(folder, 'deadline'), 'torn')
    expect(await walk()).toMatchObject({ kind: 'returned' })
  })

  it('not where nobody can read what was decided', async () => {
    await switched()
    await writeFile(join(folder.path, 'verdict'), 'torn')
    expect(await walk()).toMatchObject({ kind: 'returned' })
    expect(state()).toEqual(old)
  })
})

describe('N6: the way back', () => {
  it('ends the switch forward, wholly, before it begins', async () => {
    let ended = false
    system.scripts.set(switchProgram(NEW), () => new Promise(() => {}))
    await units.start(switchUnit(folder, arm, 'switch', NEW))
    const stop = units.stop.bind(units)
    units.stop = async name => {
      const result = await stop(name)
      ended ||= name === 'muster-switch-op-1'
      return result
    }
    system.scripts.set(switchProgram(OLD), args => {
      expect(ended).toBe(true)
      return goodSwitch(system, OLD)(args, undefined)
    })
    await expect.poll(() => system.commands).toContain(`${switchProgram(NEW)} test`)
    await decided()
    expect(await walk()).toMatchObject({ kind: 'returned' })
    expect(state()).toEqual(old)
  })

  it.each(['switch', 'boot'])('does not begin while anything of the %s forward lives', async direction => {
    await switched()
    await decided()
    units.stop = async name =>
      name === `muster-${direction}-op-1`
        ? ({ kind: 'alive', reason: 'a child hangs' } as never)
        : { kind: 'gone' }
    const stop = new AbortController()
    const walked = walk(stop.signal)
    await expect.poll(() => said.join()).toContain('cannot begin: a child hangs')
    expect(system.commands).toEqual([])
    // It is tried again, so this is no end yet.
    expect(await readReturnEnd(folder)).toBeUndefined()
    stop.abort()
    expect(await walked).toBe('stopped')
    expect(await readReturnEnd(folder)).toBeUndefined()
  })
})

describe('N36: the way back has an end', () => {
  const brokenSwitch: Script = () => ({ exitCode: 1, stderr: ['no'] })

  it('only once it was tried as often as it is', async () => {
    await switched()
    await decided()
    let tries = 0
    system.scripts.set(switchProgram(OLD), async args => {
      tries += 1
      expect(await readReturnEnd(folder)).toBeUndefined()
      return tries < 3 ? brokenSwitch(args, undefined) : goodSwitch(system, OLD)(args, undefined)
    })
    expect(await walk()).toMatchObject({ kind: 'returned' })
    expect([tries, state()]).toEqual([3, old])
  })

  it('that says it failed, when it did, with what runs', async () => {
    await switched()
    await decided()
    system.scripts.set(switchProgram(OLD), brokenSwitch)
    const end = await walk()
    expect(end).toMatchObject({ kind: 'failed', exitCode: 1, reason: expect.stringContaining(NEW) })
    expect(await readReturnEnd(folder)).toEqual(end)
  })

  it('and before it the boot default is the old system again, also where that cannot be switched to', async () => {
    await switched(true)
    await decided()
    let tries = 0
    system.scripts.set(switchProgram(OLD), async args => {
      if (args[0] === 'boot') return {}
      tries += 1
      expect(bootDefault(system)).toBe(tries === 1 ? NEW : OLD)
      return tries < 2 ? brokenSwitch(args, undefined) : goodSwitch(system, OLD)(args, undefined)
    })
    expect(await walk()).toMatchObject({ kind: 'returned' })
    expect([tries, state()]).toEqual([2, old])
  })

  it('for which another switch is waited for, however long that takes', async () => {
    await switched()
    await decided()
    arm = { ...arm, switchMs: 60_000 }
    const lock = '/root/run/nixos/switch-to-configuration.lock'
    system.files.set(lock, '')
    system.links.set('/proc/77/fd/3', lock)
    system.files.set('/proc/77/fdinfo/3', 'lock:\t1: FLOCK  ADVISORY  WRITE 77 00:19:1 0 EOF\n')
    system.files.set('/proc/77/comm', 'switch-to-confi\n')
    let tries = 0
    system.scripts.set(switchProgram(OLD), async args => {
      tries += 1
      return system.files.has('/proc/77/comm')
        ? { exitCode: 11, stderr: ['Could not acquire lock'] }
        : goodSwitch(system, OLD)(args, undefined)
    })
    const way = walk()
    // By then it would have been tried twice more.
    setTimeout(() => {
      system.links.delete('/proc/77/fd/3')
      for (const name of ['comm', 'fdinfo/3']) system.files.delete(`/proc/77/${name}`)
    }, 7_000)
    expect(await way).toMatchObject({ kind: 'returned' })
    expect([tries, state()]).toEqual([2, old])
  })

  it('that is not believed from the exit code: what runs must be the old system', async () => {
    await switched()
    await decided()
    system.scripts.set(switchProgram(OLD), () => ({}))
    expect(await walk()).toMatchObject({ kind: 'failed' })
  })

  it('in which the old system’s own broken units are no failure', async () => {
    await switched()
    await decided()
    system.scripts.set(switchProgram(OLD), async args => ({
      ...(await goodSwitch(system, OLD)(args, undefined)),
      exitCode: 4,
    }))
    expect(await walk()).toMatchObject({ kind: 'returned' })
  })
})

it('the way back from a promotion leaves no newer generation to a boot loader that always starts the newest', async () => {
  await switched(true)
  await startNewest(system).run(switchProgram(NEW), ['boot'], {})
  expect(loaderDefault(system)).toBe(NEW)
  await decided()
  expect(await walk()).toMatchObject({ kind: 'returned' })
  expect([bootDefault(system), loaderDefault(system)]).toEqual([OLD, OLD])
})

describe('the way back from a trial boot', () => {
  const asked: string[] = []
  beforeEach(async () => {
    asked.length = 0
    await armed('trial')
    units.onReboot = async () => {
      asked.push('reboot')
    }
    await system.scripts.get('nix-env')?.(['-p', PROFILE, '--set', NEW], undefined)
    await system.scripts.get('nix-env')?.(['-p', PROFILE, '--switch-generation', '1'], undefined)
  })

  it('clears the choice of the next boot before one was made', async () => {
    await decided()
    expect(await walk()).toMatchObject({ kind: 'returned' })
    expect(system.commands).toEqual([
      'bootctl set-oneshot ',
      `${switchProgram(OLD)} boot`,
      // What was made for the trial is newer than the default, and would push its entry out one day.
      `nix-env --profile ${PROFILE} --delete-generations 2`,
      `${switchProgram(OLD)} boot`,
    ])
    expect(system.links.has('/root/nix/var/nix/profiles/system-2-link')).toBe(false)
    expect(asked).toEqual([])
  })

  it('leaves what somebody switched to by hand in the same boot, and boots no trial after it', async () => {
    const byHand = `/nix/store/${'9'.repeat(32)}-by-hand`
    system.links.set(CURRENT, byHand)
    await system.scripts.get('nix-env')?.(['-p', PROFILE, '--set', byHand], undefined)
    await decided()
    expect(await walk()).toMatchObject({ kind: 'returned', reason: expect.stringContaining(byHand) })
    expect(state()).toEqual({ current: byHand, profile: byHand })
    expect(system.commands).toEqual(['bootctl set-oneshot '])
    // What this change itself had set for the next boot leads back.
    await armed('reboot')
    await system.scripts.get('nix-env')?.(['-p', PROFILE, '--set', NEW], undefined)
    system.links.set(CURRENT, byHand)
    await decided()
    expect(await walk()).toMatchObject({ kind: 'returned' })
    expect([state(), loaderDefault(system)]).toEqual([{ current: byHand, profile: OLD }, OLD])
  })

  it('asks nothing of a firmware that has no such choice left, as after the boot that used it up', async () => {
    system.files.set(
      '/sys/firmware/efi/efivars/LoaderFeatures-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f',
      '\u0006\0\0\0\u0008\0\0\0\0\0\0\0',
    )
    await decided()
    expect(await walk()).toMatchObject({ kind: 'returned' })
    expect(system.commands.filter(line => line.startsWith('bootctl'))).toEqual([])
  })

  it('is no success where the choice cannot be cleared, and restores everything else', async () => {
    await system.scripts.get('nix-env')?.(['-p', PROFILE, '--set', NEW], undefined)
    system.scripts.set('bootctl', () => ({ exitCode: 1, stderr: ['Failed to update EFI variable'] }))
    const problem = await restoreBootDefault({ system, say: line => said.push(line) }, arm)
    expect(problem).toMatch(/is still chosen.*Failed to update EFI variable/)
    expect([bootDefault(system), loaderDefault(system)]).toEqual([OLD, OLD])
  })

  it('clears the choice also where the boot loader cannot be written', async () => {
    await system.scripts.get('nix-env')?.(['-p', PROFILE, '--set', NEW], undefined)
    await system.run(switchProgram(NEW), ['boot'], {})
    system.commands.length = 0
    system.scripts.set(switchProgram(OLD), () => ({ exitCode: 1, stderr: ['No space left on device'] }))
    const problem = await restoreBootDefault({ system, say: line => said.push(line) }, arm)
    expect(problem).toContain('No space left')
    expect(system.commands[0]).toBe('bootctl set-oneshot ')
  })

  it('takes the new system’s generation away before that boot where the boot loader always starts the newest', async () => {
    await armed('reboot')
    await system.scripts.get('nix-env')?.(['-p', PROFILE, '--set', NEW], undefined)
    await startNewest(system).run(switchProgram(NEW), ['boot'], {})
    expect(loaderDefault(system)).toBe(NEW)
    bootAnew(system, NEW)
    await decided()
    expect(await walk()).toMatchObject({ kind: 'booting' })
    expect([bootDefault(system), loaderDefault(system)]).toEqual([OLD, OLD])
  })

  it('is another boot, and ends in it', async () => {
    bootAnew(system, NEW)
    await decided()
    expect(await walk()).toMatchObject({ kind: 'booting', bootId: 'boot-2' })
    expect(asked).toEqual(['reboot'])
    bootAnew(system)
    expect(await walk()).toMatchObject({ kind: 'returned' })
    expect(state()).toEqual(old)
    expect(system.links.get(BOOTED)).toBe(OLD)
  })

  it('does not boot for ever: a machine that boots the new system again is switched back as it runs', async () => {
    bootAnew(system, NEW)
    await decided()
    await walk()
    bootAnew(system, NEW)
    expect(await walk()).toMatchObject({ kind: 'returned' })
    expect(asked).toEqual(['reboot'])
    expect(state()).toEqual(old)
  })

  it('minds no lock that a program holds against a reboot, and is forced where it is refused all the same', async () => {
    bootAnew(system, NEW)
    await decided()
    const asked: unknown[] = []
    units.reboot = async (how?: string) => {
      asked.push(how)
      return how === 'force' ? { kind: 'started' } : { kind: 'failed', reason: 'inhibited' }
    }
    expect(await walk()).toMatchObject({ kind: 'booting' })
    expect(asked).toEqual(['past-locks', 'force'])
  })

  it('fails where the reboot is refused, instead of waiting for it', async () => {
    bootAnew(system, NEW)
    await decided()
    units.reboot = async () => ({ kind: 'failed', reason: 'inhibited' }) as never
    expect(await walk()).toMatchObject({ kind: 'failed', reason: expect.stringContaining('inhibited') })
    expect(await readReturnEnd(folder)).toMatchObject({ kind: 'failed' })
  })
})

describe('the way back, killed between any two of its acts and walked again', () => {
  /** Has the n-th act of the machine never come back, as for a process that is killed at it. */
  function killedAt(number: number, after: boolean) {
    let acts = 0
    let kill = () => {}
    const killed = new Promise<void>(resolve => {
      kill = resolve
    })
    const start = units.start.bind(units)
    const at = async <T>(act: () => Promise<T>): Promise<T> => {
      acts += 1
      if (acts !== number) return await act()
      if (after) await act()
      kill()
      return await new Promise<T>(() => {})
    }
    const door: System = Object.create(system, {
      run: { value: (...args: Parameters<System['run']>) => at(() => system.run(...args)) },
    })
    units.start = (...args) => at(() => start(...args))
    const heal = () => {
      units.start = start
    }
    return { killed, door, heal }
  }

  it.each([1, 2, 3].flatMap(number => [true, false].map(after => [number, after] as const)))(
    'ends in the same place (act %i, done %s)',
    async (number, after) => {
      await switched(true)
      await decided()
      const { killed, door, heal } = killedAt(number, after)
      void walk(new AbortController().signal, door)
      await killed
      heal()
      // What the killed process had started goes with its control group, or runs on and is ended by its name.
      await units.cut()
      expect(await walk()).toMatchObject({ kind: 'returned' })
      expect(state()).toEqual(old)
    },
  )
})
