import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { RebootPolicy, SafetySchema } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import { sampleTarget } from '../../shared/revision/testing/sample-fleet.ts'
import { durationFromMs } from '../../shared/time.ts'
import { ScriptedKubernetes } from '../kubernetes/testing/scripted-kubernetes.ts'
import { leftUntil, readDeadline } from '../safety/deadline.ts'
import { armFolder } from '../safety/operation-folder.ts'
import { readBootTime } from '../safety/uptime.ts'
import { rearmUnder } from './testing/boot-under-test.ts'
import { inWords, NodeUnderTest } from './testing/node-under-test.ts'
import {
  BOOTED,
  bootAnew,
  bootDefault,
  CURRENT,
  LOADER_CONF,
  loaderDefault,
  NEW,
  OLD,
  PROFILE,
  sampleMachine,
  startNewest,
  switchProgram,
} from './testing/sample-machine.ts'
import type { ScriptedSystem } from './testing/scripted-system.ts'

const EFI = '/sys/firmware/efi/efivars'
const FEATURES = `${EFI}/LoaderFeatures-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f`
const CHOICE = `${EFI}/LoaderEntryOneShot-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f`

let tree: string
beforeAll(async () => {
  tree = await mkdtemp(join(tmpdir(), 'tree-'))
  await writeFile(join(tree, 'flake.nix'), '{ outputs = _: { }; }')
})
afterAll(() => rm(tree, { recursive: true }))

/** A machine whose boot loader boots an entry once, and a new system that no switch reaches. */
function trialMachine(): ScriptedSystem {
  const system = sampleMachine()
  // Four bytes of attributes, then the features, of which the fourth bit is the one.
  system.files.set(FEATURES, '\u0006\0\0\0\u0008\0\0\0\0\0\0\0')
  system.files.set(join(NEW, 'init-interface-version'), 'other\n')
  system.scripts.set('bootctl', ([, entry = '']) => {
    if (entry === '') system.files.delete(CHOICE)
    else system.files.set(CHOICE, entry)
    return {}
  })
  return system
}

/** Somebody had NEW installed for the next boot, or chose OLD at the boot menu since: OLD runs, and the next boot is NEW's. */
async function installedForNextBoot(system: ScriptedSystem): Promise<ScriptedSystem> {
  await system.run('nix-env', ['-p', PROFILE, '--set', NEW], {})
  await system.run(switchProgram(NEW), ['boot'], {})
  system.commands.length = 0
  expect([bootDefault(system), loaderDefault(system)]).toEqual([NEW, NEW])
  return system
}

/** Applies it; `boots` says what each boot that is asked for comes up with. */
async function tried(system: ScriptedSystem, boots: readonly string[], noTrial = false) {
  await using node = await NodeUnderTest.start(system, { allow: ['apply', 'reboot'] })
  let asked = 0
  node.units.onReboot = async () => {
    asked += 1
  }
  const safety = create(SafetySchema, {
    soak: durationFromMs(0),
    confirmWithin: durationFromMs(5_000),
    reboot: RebootPolicy.REQUIRED,
    noTrial,
  })
  const id = await node.order(await node.publish(tree, { targets: [sampleTarget({ safety })] }))
  const defaults: (string | undefined)[] = []
  for (const [number, toplevel] of boots.entries()) {
    await vi.waitUntil(() => asked > number, { timeout: 10_000 })
    expect(loaderDefault(system)).toBe(bootDefault(system))
    defaults.push(bootDefault(system))
    await node.kill()
    await node.units.cut()
    system.files.delete(CHOICE) // as the boot loader does before it starts anything
    bootAnew(system, toplevel)
    await rearmUnder(node)
    await node.start()
  }
  const outcome = await node.outcome(id)
  await node.units.idle()
  return { outcome, defaults, armed: node.units.armed }
}

const written = (system: ScriptedSystem) =>
  system.commands.filter(line => /^(nix-env -p|bootctl)|switch-to-configuration/.test(line))
const PREPARED = [
  `nix-env -p ${PROFILE} --set ${NEW}`,
  `nix-env -p ${PROFILE} --switch-generation 1`,
  `${switchProgram(OLD)} boot`,
  'bootctl set-oneshot nixos-generation-2.conf',
]

describe('a trial boot', () => {
  it('leaves the default on the old system until the new one has proved itself', async () => {
    const system = trialMachine()
    const { outcome, defaults, armed } = await tried(system, [NEW])
    expect(inWords(outcome)).toBe('succeeded')
    expect(defaults).toEqual([OLD])
    expect(written(system)).toEqual([
      ...PREPARED,
      `nix-env -p ${PROFILE} --set ${NEW}`,
      `${switchProgram(NEW)} boot`,
    ])
    expect([bootDefault(system), system.links.get(CURRENT), armed]).toEqual([NEW, NEW, []])
  })

  it.each(['the static unit', 'the agent'])(
    'has the time in which a restart of the coordinator was announced before it, where %s arms it',
    async who => {
      const system = trialMachine()
      await using node = await NodeUnderTest.start(system, { allow: ['apply', 'reboot'] })
      let asked = false
      node.units.onReboot = async () => {
        asked = true
      }
      const safety = create(SafetySchema, {
        soak: durationFromMs(0),
        confirmWithin: durationFromMs(5_000),
        reboot: RebootPolicy.REQUIRED,
      })
      const id = await node.order(await node.publish(tree, { targets: [sampleTarget({ safety })] }))
      await vi.waitUntil(() => asked, { timeout: 10_000 })
      await node.operations.coordinatorRestarts(30_000)
      await node.kill()
      await node.units.cut()
      system.files.delete(CHOICE)
      bootAnew(system, NEW)
      if (who === 'the static unit') await rearmUnder(node)
      let leftMs: number | undefined
      node.confirm = async () => {
        const deadline = await readDeadline(armFolder(node.stateDir, id, 1))
        leftMs = deadline && leftUntil(deadline, await readBootTime(system))
        return { confirmed: true, reason: '' }
      }
      await node.start()
      expect(inWords(await node.outcome(id))).toBe('succeeded')
      expect(leftMs).toBeGreaterThan(25_000)
    },
  )

  it('that did not come up is blamed on the new system', async () => {
    const system = trialMachine()
    const { outcome, armed } = await tried(system, [OLD])
    expect(inWords(outcome)).toBe('rolled back')
    expect(outcome.firstCause).toBe(OutcomeClass.ACTIVATION_FAILED)
    expect(written(system).slice(0, PREPARED.length)).toEqual(PREPARED)
    expect(system.commands.filter(line => line.startsWith(switchProgram(NEW)))).toEqual([])
    expect([bootDefault(system), system.links.get(CURRENT), armed]).toEqual([OLD, OLD, []])
  })

  it.each([
    ['nix-env', /nix-env --set/],
    ['bootctl', /bootctl set-oneshot nixos-generation-2\.conf/],
    [switchProgram(OLD), /switch-to-configuration boot/],
  ])('for which %s fails is not begun', async (command, reason) => {
    const system = trialMachine()
    const before = system.scripts.get(command)
    let calls = 0
    system.scripts.set(command, async (args, cwd) => {
      if (args[0] === '--version') return { stdout: ['nix-env (Nix) 2.8.0'] }
      calls += 1
      return calls === 1 ? { exitCode: 1 } : ((await before?.(args, cwd)) ?? {})
    })
    const { outcome } = await tried(system, [])
    expect(inWords(outcome)).toBe('rolled back')
    expect(outcome.reason).toMatch(reason)
    expect([bootDefault(system), system.links.get(CURRENT)]).toEqual([OLD, OLD])
    expect(system.links.get(BOOTED)).toBe(OLD)
  })

  it.each([
    ['the new', 2],
    ['the old', 1],
  ])('is not begun where the installer keeps no entry for %s generation', async (_, number) => {
    const system = trialMachine()
    const boot = system.scripts.get(switchProgram(OLD))
    system.scripts.set(switchProgram(OLD), async (args, cwd) => {
      const end = (await boot?.(args, cwd)) ?? {}
      system.files.delete(`/root/boot/loader/entries/nixos-generation-${number}.conf`)
      return end
    })
    const { outcome } = await tried(system, [])
    expect(inWords(outcome)).toBe('rolled back')
    expect(outcome.reason).toContain('configurationLimit')
    expect(system.commands.filter(line => line.startsWith('bootctl set-oneshot n'))).toEqual([])
    expect([bootDefault(system), system.links.get(CURRENT)]).toEqual([OLD, OLD])
  })

  it('T25: or a boot without one, whose way back fails, is no success when it is ordered again, though its system runs', async () => {
    const system = trialMachine()
    const old = system.scripts.get(switchProgram(OLD))
    await using node = await NodeUnderTest.start(system, { allow: ['apply', 'reboot'] })
    let asked = 0
    node.units.onReboot = async () => {
      asked += 1
    }
    const safety = create(SafetySchema, {
      soak: durationFromMs(0),
      confirmWithin: durationFromMs(60_000),
      reboot: RebootPolicy.REQUIRED,
      noTrial: true,
    })
    system.files.delete(FEATURES)
    const revision = { targets: [sampleTarget({ safety })] }
    const id = await node.order(await node.publish(tree, revision))
    await vi.waitUntil(() => asked === 1, { timeout: 10_000 })
    await node.kill()
    await node.units.cut()
    bootAnew(system)
    await rearmUnder(node)
    system.scripts.set(switchProgram(OLD), async (args, cwd) =>
      args[0] === 'boot'
        ? { exitCode: 1, stderr: ['No space left on device'] }
        : ((await old?.(args, cwd)) ?? {}),
    )
    node.units.failedUnits.add('web.service')
    await node.start()
    expect(inWords(await node.outcome(id))).toBe('rollback failed')
    expect([system.links.get(CURRENT), bootDefault(system)]).toEqual([NEW, NEW])
    const again = await node.apply(await node.publish(tree, { ...revision, number: 6 }))
    expect(inWords(again)).toBe('refused quarantined')
  })

  it('leaves what runs the default also where the new system was installed for the next boot before', async () => {
    const system = await installedForNextBoot(trialMachine())
    const { outcome, defaults } = await tried(system, [OLD])
    expect(defaults).toEqual([OLD])
    expect(inWords(outcome)).toBe('rolled back')
    expect(written(system).slice(0, 3)).toEqual([
      `nix-env -p ${PROFILE} --switch-generation 1`,
      `nix-env -p ${PROFILE} --set ${NEW}`,
      `nix-env -p ${PROFILE} --switch-generation 1`,
    ])
    expect([bootDefault(system), loaderDefault(system), system.links.get(CURRENT)]).toEqual([OLD, OLD, OLD])
    // What somebody else installed is not taken away with the trial.
    expect(system.links.get(`${PROFILE}-2-link`)).toBe(NEW)
  })

  it('makes a generation of what runs where that has none, to be the default', async () => {
    const system = await installedForNextBoot(trialMachine())
    system.links.delete(`${PROFILE}-1-link`)
    system.files.delete('/root/boot/loader/entries/nixos-generation-1.conf')
    const { outcome, defaults } = await tried(system, [NEW])
    expect([inWords(outcome), ...defaults]).toEqual(['succeeded', OLD])
    expect([bootDefault(system), loaderDefault(system)]).toEqual([NEW, NEW])
  })

  it('is refused as a reboot that is required where the boot loader always starts the newest, as lanzaboote’s', async () => {
    const system = startNewest(trialMachine())
    system.files.set(LOADER_CONF, 'default nixos-*\n')
    const { outcome } = await tried(system, [])
    expect(inWords(outcome)).toBe('reboot required')
    expect(outcome.reason).toContain('nixos-*')
    expect(written(system)).toEqual([])
  })

  it('is a plain boot there where the fleet file wants no trial', async () => {
    const system = trialMachine()
    system.files.set(LOADER_CONF, 'default nixos-*\n')
    const { outcome } = await tried(system, [NEW], true)
    expect(inWords(outcome)).toBe('succeeded')
    expect(written(system).filter(line => line.startsWith('bootctl'))).toEqual([])
    expect(system.links.get(BOOTED)).toBe(NEW)
  })

  it('is not begun where somebody switched by hand after the way back was laid, and leaves that alone', async () => {
    const system = trialMachine()
    const byHand = `/nix/store/${'9'.repeat(32)}-by-hand`
    await using node = await NodeUnderTest.start(system, { allow: ['apply', 'reboot'] })
    const start = node.units.startTimer.bind(node.units)
    node.units.startTimer = async unit => {
      system.links.set(CURRENT, byHand)
      return await start(unit)
    }
    const safety = create(SafetySchema, { soak: durationFromMs(0), reboot: RebootPolicy.REQUIRED })
    const outcome = await node.apply(await node.publish(tree, { targets: [sampleTarget({ safety })] }))
    expect(inWords(outcome)).toBe('rolled back')
    expect(outcome.reason).toContain(`${byHand} runs, and the way back leads to ${OLD}`)
    expect([system.links.get(CURRENT), bootDefault(system), system.files.has(CHOICE)]).toEqual([
      byHand,
      OLD,
      false,
    ])
  })

  it('is not begun where the installer turns out to start the newest', async () => {
    const system = startNewest(trialMachine())
    const { outcome } = await tried(system, [])
    expect(inWords(outcome)).toBe('rolled back')
    expect(outcome.reason).toContain('nixos-*')
    expect([system.files.has(CHOICE), system.links.get(CURRENT)]).toEqual([false, OLD])
  })

  it('is refused as a reboot that is required where the boot loader cannot boot an entry once', async () => {
    const system = trialMachine()
    system.files.delete(FEATURES)
    const { outcome } = await tried(system, [])
    expect(inWords(outcome)).toBe('reboot required')
    expect(written(system)).toEqual([])
  })
})

describe('a trial boot of a server', () => {
  const safety = create(SafetySchema, { soak: durationFromMs(0), reboot: RebootPolicy.REQUIRED })
  const part = { version: '1.34.3' }

  async function server(kubernetesDeadlineMs: number) {
    const system = trialMachine()
    const config = { allow: ['apply', 'reboot'], kubernetesDeadlineMs }
    const node = await NodeUnderTest.start(system, config)
    const kubernetes = await ScriptedKubernetes.on(system, part, part)
    await node.stop()
    node.kubernetes = kubernetes
    await node.start()
    const boots: string[] = []
    node.units.onReboot = async () => void boots.push(system.files.get(CHOICE) ?? 'the default')
    const apply = async () =>
      await node.order(await node.publish(tree, { targets: [sampleTarget({ safety })] }))
    return { node, system, kubernetes, boots, apply }
  }

  it('waits while its datastore cannot do without it, with the boot loader as it was', async () => {
    const { node, system, kubernetes, boots, apply } = await server(60_000)
    await using _ = node
    let looks = 0
    kubernetes.onWhyNotStop = () => {
      looks += 1
      if (looks > 2) return undefined
      expect(written(system)).toEqual([])
      return '1 of 3 voters would answer without it'
    }
    await apply()
    await expect.poll(() => boots, { timeout: 15_000 }).toEqual(['nixos-generation-2.conf'])
    // Once more after the boot loader was written.
    expect(looks).toBe(4)
  }, 30_000)

  it('is not begun where it stays so, and nothing was touched', async () => {
    const { node, system, kubernetes, boots, apply } = await server(50)
    await using _ = node
    kubernetes.onWhyNotStop = () => '1 of 2 voters would answer without it'
    const outcome = await node.outcome(await apply())
    expect([inWords(outcome), outcome.reason]).toEqual([
      'refused quorum',
      expect.stringContaining('may not boot anew now: 1 of 2 voters would answer without it'),
    ])
    expect([boots, written(system)]).toEqual([[], []])
    await expect.poll(() => node.units.armed).toEqual([])
  })

  it('is taken back where another server fails while the boot loader is written', async () => {
    const { node, system, kubernetes, boots, apply } = await server(50)
    await using _ = node
    kubernetes.onWhyNotStop = () =>
      written(system).length > 0 ? '1 of 3 voters would answer without it' : undefined
    const outcome = await node.outcome(await apply())
    expect([inWords(outcome), outcome.firstCause]).toEqual(['rolled back', OutcomeClass.REFUSED])
    expect(outcome.reason).toContain('1 of 3 voters would answer without it')
    expect([boots, bootDefault(system), system.files.has(CHOICE)]).toEqual([[], OLD, false])
    expect(node.operations.nodeStatus().quarantined).toEqual([])
  })

  it('is taken back as well where an earlier process had prepared the boot', async () => {
    const { node, system, kubernetes, boots, apply } = await server(50)
    await using _ = node
    const choose = system.scripts.get('bootctl')
    let killed: Promise<void> | undefined
    system.scripts.set('bootctl', async (...args) => {
      const end = (await choose?.(...args)) ?? {}
      killed ??= node.kill()
      return end
    })
    const id = await apply()
    await vi.waitUntil(() => killed !== undefined, { timeout: 10_000 })
    await killed
    expect(system.files.has(CHOICE)).toBe(true)
    kubernetes.onWhyNotStop = () => '1 of 3 voters would answer without it'
    await node.start()
    expect(inWords(await node.outcome(id))).toBe('rolled back')
    expect([boots, bootDefault(system), system.files.has(CHOICE)]).toEqual([[], OLD, false])
  })
})

describe('a switch to what was installed for the next boot', () => {
  async function switched(broken: boolean, machine = sampleMachine()) {
    const system = await installedForNextBoot(machine)
    const program = system.scripts.get(switchProgram(NEW))
    const during: (string | undefined)[] = []
    system.scripts.set(switchProgram(NEW), async (args, cwd) => {
      if (args[0] === 'test') during.push(bootDefault(system), loaderDefault(system))
      const end = (await program?.(args, cwd)) ?? {}
      return args[0] === 'test' && broken ? { ...end, exitCode: 2 } : end
    })
    await using node = await NodeUnderTest.start(system)
    const outcome = await node.apply(await node.publish(tree))
    await node.units.idle()
    return { system, outcome, during }
  }

  it('makes what runs the default before it begins, and the new system once it is proved', async () => {
    const { system, outcome, during } = await switched(false)
    expect(inWords(outcome)).toBe('succeeded')
    expect(during).toEqual([OLD, OLD])
    expect([bootDefault(system), loaderDefault(system)]).toEqual([NEW, NEW])
  })

  it('that fails leaves what runs the default', async () => {
    const { system, outcome, during } = await switched(true)
    expect(inWords(outcome)).toBe('rolled back')
    expect(during).toEqual([OLD, OLD])
    expect([bootDefault(system), loaderDefault(system), system.links.get(CURRENT)]).toEqual([OLD, OLD, OLD])
  })

  it('does so as well where the boot loader always starts the newest generation', async () => {
    const { system, outcome, during } = await switched(true, startNewest(sampleMachine()))
    expect(inWords(outcome)).toBe('rolled back')
    expect(during).toEqual([OLD, OLD])
    expect([bootDefault(system), loaderDefault(system)]).toEqual([OLD, OLD])
  })

  it('is not begun where the installer leaves the new system the default', async () => {
    const system = await installedForNextBoot(sampleMachine())
    const conf = system.files.get(LOADER_CONF) ?? ''
    const install = system.scripts.get(switchProgram(OLD))
    system.scripts.set(switchProgram(OLD), async (args, cwd) => {
      const end = (await install?.(args, cwd)) ?? {}
      if (args[0] === 'boot') system.files.set(LOADER_CONF, conf)
      return end
    })
    await using node = await NodeUnderTest.start(system)
    const outcome = await node.apply(await node.publish(tree))
    await node.units.idle()
    expect(outcome.reason).toContain('configurationLimit')
    expect(system.commands.filter(line => line === `${switchProgram(NEW)} test`)).toEqual([])
  })

  it('is not begun where what runs cannot be made the default, and the new system is not to blame', async () => {
    const system = await installedForNextBoot(sampleMachine())
    const install = system.scripts.get(switchProgram(OLD))
    let runs = 0
    system.scripts.set(switchProgram(OLD), async (args, cwd) => {
      runs += 1
      return runs === 1 ? { exitCode: 1 } : ((await install?.(args, cwd)) ?? {})
    })
    await using node = await NodeUnderTest.start(system)
    const outcome = await node.apply(await node.publish(tree))
    await node.units.idle()
    expect(inWords(outcome)).toBe('rolled back')
    expect(outcome.firstCause).toBe(OutcomeClass.UNKNOWN)
    expect(outcome.reason).toContain('could not be made the boot default')
    expect(system.commands.filter(line => line === `${switchProgram(NEW)} test`)).toEqual([])
    expect([bootDefault(system), loaderDefault(system)]).toEqual([OLD, OLD])
  })
})
