import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { RebootPolicy, SafetySchema } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import { sampleTarget } from '../../shared/revision/testing/sample-fleet.ts'
import { durationFromMs } from '../../shared/time.ts'
import { rearmUnder } from './testing/boot-under-test.ts'
import { inWords, NodeUnderTest } from './testing/node-under-test.ts'
import {
  BOOTED,
  bootAnew,
  bootDefault,
  CURRENT,
  NEW,
  OLD,
  PROFILE,
  sampleMachine,
  switchProgram,
} from './testing/sample-machine.ts'
import type { ScriptedSystem } from './testing/scripted-system.ts'

const FEATURES = '/sys/firmware/efi/efivars/LoaderFeatures-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f'

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
  system.scripts.set('bootctl', () => ({}))
  return system
}

/** Applies it; `boots` says what each boot that is asked for comes up with. */
async function tried(system: ScriptedSystem, boots: readonly string[]) {
  await using node = await NodeUnderTest.start(system, { allow: ['apply', 'reboot'] })
  let asked = 0
  node.units.onReboot = async () => {
    asked += 1
  }
  const safety = create(SafetySchema, {
    ...{ soak: durationFromMs(0), confirmWithin: durationFromMs(5_000), reboot: RebootPolicy.REQUIRED },
  })
  const id = await node.order(await node.publish(tree, { targets: [sampleTarget({ safety })] }))
  const defaults: (string | undefined)[] = []
  for (const [number, toplevel] of boots.entries()) {
    await vi.waitUntil(() => asked > number, { timeout: 10_000 })
    defaults.push(bootDefault(system))
    await node.kill()
    await node.units.cut()
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

  it('is refused as a reboot that is required where the boot loader cannot boot an entry once', async () => {
    const system = trialMachine()
    system.files.delete(FEATURES)
    const { outcome } = await tried(system, [])
    expect(inWords(outcome)).toBe('reboot required')
    expect(written(system)).toEqual([])
  })
})
