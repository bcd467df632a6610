import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { OrderSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { FactsSchema, MemoryFactsSchema, NixosFactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { SafetySchema } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { OutcomeClass, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { pause } from '../../shared/lifecycle.ts'
import { sampleTarget } from '../../shared/revision/testing/sample-fleet.ts'
import { durationFromMs } from '../../shared/time.ts'
import type { OperationsConfig } from './context.ts'
import { expectOldAgain, expectUntouched } from './testing/expect-machine.ts'
import { inWords, NodeUnderTest } from './testing/node-under-test.ts'
import {
  bootDefault,
  CURRENT,
  goodSwitch,
  loaderDefault,
  NEW,
  OLD,
  PROFILE,
  sampleMachine,
  switchProgram,
} from './testing/sample-machine.ts'
import type { Script, ScriptedSystem } from './testing/scripted-system.ts'

const SWITCH = switchProgram(NEW)

let tree: string
beforeAll(async () => {
  tree = await mkdtemp(join(tmpdir(), 'tree-'))
  await writeFile(join(tree, 'flake.nix'), '{ outputs = _: { }; }')
})
afterAll(() => rm(tree, { recursive: true }))

async function applied(system: ScriptedSystem, config: Partial<OperationsConfig> = {}) {
  await using node = await NodeUnderTest.start(system, config)
  return await node.apply(await node.publish(tree))
}

describe('an operation', () => {
  it('goes through its phases in order, activates by `test`, and promotes only then', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    const id = await node.order(await node.publish(tree))
    const outcome = await node.outcome(id)
    expect(inWords(outcome)).toBe('succeeded')
    expect(outcome).toMatchObject({ phase: Phase.DONE, storePath: NEW, simulated: ['this machine'] })
    expect(node.report(id)?.phases.map(({ phase }) => phase)).toEqual([
      ...[Phase.VERIFY, Phase.PREFLIGHT, Phase.FETCH, Phase.BUILD, Phase.PLAN, Phase.ARM],
      ...[Phase.ACTIVATE, Phase.PROVE, Phase.CONFIRM, Phase.PROMOTE],
    ])
    const steps = system.commands.filter(line => /switch-to|--set/.test(line))
    expect(steps).toEqual([`${SWITCH} test`, `nix-env -p ${PROFILE} --set ${NEW}`, `${SWITCH} boot`])
    expect(bootDefault(system)).toBe(NEW)
  })

  it('T3: builds the verified tree, with nothing that could update or open it, and activates what came out', async () => {
    const system = sampleMachine()
    await applied(system)
    const build = system.commands.find(line => line.startsWith('nixos-rebuild')) ?? ''
    expect(build).toMatch(
      /^nixos-rebuild build --flake path:\S+\/trees\/[0-9a-f]{64}#olaf --no-update-lock-file/,
    )
    // The Python nixos-rebuild keeps one --option and no more.
    expect(build).not.toContain('--option')
    expect(system.nixSettings).toEqual([
      'accept-flake-config = false',
      'use-registries = false',
      'pure-eval = true',
    ])
    expect(build).not.toMatch(/--no-write-lock-file|--impure|--refresh|--upgrade/)
  })

  it('builds in the slice that bounds memory, CPU and I/O, on every machine that systemd runs', async () => {
    // What the slice allows is the NixOS module's to say: test/nix/modules.test.ts.
    const builds = ({ commands }: ScriptedSystem) => commands.filter(line => line.includes('nixos-rebuild'))
    const bounded = sampleMachine()
    bounded.files.set('/run/systemd/system', '')
    const rebuild = bounded.scripts.get('nixos-rebuild')
    bounded.scripts.set('systemd-run', async (args, cwd) => {
      const command = args.slice(args.indexOf('--') + 1)
      return (await rebuild?.(command.slice(1), cwd)) ?? {}
    })
    const outcome = await applied(bounded, { systemRoot: '/' })
    expect(outcome.phase).not.toBe(Phase.BUILD)
    expect(builds(bounded)).toEqual([
      expect.stringMatching(
        /^systemd-run --scope .*--slice=muster-build\.slice -- nixos-rebuild build --flake /,
      ),
    ])
    const without = sampleMachine()
    await applied(without, { systemRoot: '/' })
    expect(builds(without)).toEqual([expect.stringMatching(/^nixos-rebuild build --flake /)])
  })

  it('that reached its target does nothing when it is ordered again', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    const revision = await node.publish(tree)
    await node.apply(revision)
    system.commands.length = 0
    const again = await node.apply(revision)
    expect(inWords(again)).toBe('succeeded')
    expect(again.reason).toContain('nothing was done')
    expect(system.commands.filter(line => /switch-to|--set/.test(line))).toEqual([])
  })

  it('S3, T25, T56: goes back for a switch that failed, and refuses that system from then on', async () => {
    const system = sampleMachine()
    system.scripts.set(SWITCH, async args => ({
      ...(await goodSwitch(system, NEW)(args, undefined)),
      exitCode: 4,
      stderr: ['activating the configuration...', 'warning: the following units failed: x.service'],
    }))
    await using node = await NodeUnderTest.start(system)
    const outcome = await node.apply(await node.publish(tree))
    expect(inWords(outcome)).toBe('rolled back')
    expect(outcome.firstCause).toBe(OutcomeClass.ACTIVATION_FAILED)
    expect(outcome.reason).toContain('units failed (exit 4): x.service')
    expect(outcome.runs).toBe(OLD)
    expectOldAgain(system)
    system.commands.length = 0
    const again = await node.apply(await node.publish(tree, { number: 6 }))
    expect(inWords(again)).toBe('refused quarantined')
    expect(again.reason).toContain('x.service')
    expect(system.commands.filter(line => /switch-to|--set/.test(line))).toEqual([])
  })

  it.each(['failedUnits', 'unsteadyUnits'] as const)(
    'is not taken back for a service that died again and again before (%s)',
    async known => {
      const system = sampleMachine()
      system.scripts.set(SWITCH, async args => ({
        ...(await goodSwitch(system, NEW)(args, undefined)),
        exitCode: args[0] === 'test' ? 4 : 0,
        stderr: ['activating the configuration...', 'warning: the following units failed: x.service'],
      }))
      await using node = await NodeUnderTest.start(system)
      node.units[known].add('x.service')
      expect(inWords(await node.apply(await node.publish(tree)))).toBe('succeeded')
    },
  )

  it.each<[string, Script, string, RegExp]>([
    [
      'exits 1 before',
      () => ({ exitCode: 1, stderr: ["Pre-switch check 'x' failed"] }),
      'activation failed',
      /nothing was touched/,
    ],
    ['exits 2 before it began', () => ({ exitCode: 2 }), 'activation failed', /nothing was touched/],
    ['exits 11', () => ({ exitCode: 11, stderr: ['Could not acquire lock'] }), 'busy', /nothing was touched/],
    ['exits 100', () => ({ exitCode: 100 }), 'reboot required', /reboot/],
  ])('whose switch %s touched nothing, and nothing is taken back', async (_, script, words, reason) => {
    const system = sampleMachine()
    system.scripts.set(SWITCH, script)
    await using node = await NodeUnderTest.start(system)
    const outcome = await node.apply(await node.publish(tree))
    expect(inWords(outcome)).toBe(words)
    expect(outcome.reason).toMatch(reason)
    expect(bootDefault(system)).toBe(OLD)
    expect(system.commands.filter(line => line.includes('switch-to-configuration'))).toEqual([
      `${SWITCH} test`,
    ])
    await expect.poll(() => node.units.armed).toEqual([])
  })

  it('that finds another switch at work begins none, which with an older program would wait for it', async () => {
    const system = sampleMachine()
    const lock = '/root/run/nixos/switch-to-configuration.lock'
    system.files.set(lock, '')
    system.links.set('/proc/77/fd/3', lock)
    system.files.set('/proc/77/fdinfo/3', 'lock:\t1: FLOCK  ADVISORY  WRITE 77 00:19:1 0 EOF\n')
    system.files.set('/proc/77/comm', 'switch-to-confi\n')
    await using node = await NodeUnderTest.start(system)
    const outcome = await node.apply(await node.publish(tree))
    expect(inWords(outcome)).toBe('busy')
    expect(outcome.reason).toContain('another switch is running (process 77 has the lock)')
    expectUntouched(system)
    await expect.poll(() => node.units.armed).toEqual([])
    for (const name of ['fdinfo/3', 'comm']) system.files.delete(`/proc/77/${name}`)
    system.links.delete('/proc/77/fd/3')
    expect(inWords(await node.apply(await node.publish(tree)))).toBe('succeeded')
  })

  it.each<[string, Script, OutcomeClass, RegExp]>([
    [
      'exits 1 in the middle',
      () => ({ exitCode: 1, stderr: ['activating the configuration...', 'Failed to get unit x'] }),
      OutcomeClass.ACTIVATION_FAILED,
      /broke off in the middle \(exit 1: Failed to get unit x\)/,
    ],
    [
      'exits 2',
      () => ({ exitCode: 2, stderr: ['activating the configuration...'] }),
      OutcomeClass.ACTIVATION_FAILED,
      /activation script/,
    ],
    [
      'says 0 and changed nothing',
      () => ({ stderr: ['activating the configuration...'] }),
      OutcomeClass.ACTIVATION_FAILED,
      /ended with 0, but/,
    ],
    [
      'is killed',
      () => ({ ending: { kind: 'signalled', signal: 'SIGKILL' } }),
      OutcomeClass.UNKNOWN,
      /ended by KILL/,
    ],
    [
      'takes too long',
      () => new Promise(() => {}),
      OutcomeClass.ACTIVATION_FAILED,
      /did not end in its time/,
    ],
    ['panics', () => ({ exitCode: 101 }), OutcomeClass.UNKNOWN, /101/],
  ])(
    'whose switch %s goes back and leaves the boot default alone (T22, T29, T30)',
    async (_, script, firstCause, reason) => {
      const system = sampleMachine()
      system.scripts.set(SWITCH, script)
      const outcome = await applied(system, { switchDeadlineMs: 700 })
      expect(inWords(outcome)).toBe('rolled back')
      expect(outcome.firstCause).toBe(firstCause)
      expect(outcome.reason).toMatch(reason)
      expectOldAgain(system)
      expect(system.commands.filter(line => /--set| boot$/.test(line))).toEqual([])
      // N4: by the old system's own program.
      expect(system.commands.at(-1)).toBe(`${switchProgram(OLD)} test`)
    },
  )

  it('N11: has all its time to be confirmed when the switch is done, however long fetch, build and switch took', async () => {
    const longer = 5_300
    const system = sampleMachine()
    const build = system.scripts.get('nixos-rebuild')
    system.scripts.set('nixos-rebuild', async (args, cwd) => {
      await pause(longer)
      return (await build?.(args, cwd)) ?? { exitCode: 1 }
    })
    system.scripts.set(SWITCH, async args => {
      await pause(args[0] === 'test' ? longer : 0)
      return await goodSwitch(system, NEW)(args, undefined)
    })
    await using node = await NodeUnderTest.start(system)
    const safety = create(SafetySchema, { soak: durationFromMs(0), confirmWithin: durationFromMs(5_000) })
    const outcome = await node.apply(await node.publish(tree, { targets: [sampleTarget({ safety })] }))
    expect(inWords(outcome)).toBe('succeeded')
  })

  it('waits with the promotion for another switch, and is not taken back for it', async () => {
    const system = sampleMachine()
    let boots = 0
    system.scripts.set(SWITCH, args => {
      if (args[0] !== 'boot') return goodSwitch(system, NEW)(args, undefined)
      boots += 1
      return boots === 1 ? { exitCode: 11, stderr: ['Could not acquire lock'] } : {}
    })
    expect(inWords(await applied(system))).toBe('succeeded')
    expect([boots, bootDefault(system)]).toEqual([2, NEW])
  })

  it('is no success where that other switch made the machine another, and the boot default is not left over it', async () => {
    const system = sampleMachine()
    const byHand = `/nix/store/${'9'.repeat(32)}-by-hand`
    let boots = 0
    system.scripts.set(SWITCH, async args => {
      if (args[0] !== 'boot') return goodSwitch(system, NEW)(args, undefined)
      boots += 1
      if (boots > 1) return goodSwitch(system, NEW)(args, undefined)
      // As nixos-rebuild does it: the profile first, then the switch, which has the lock meanwhile.
      await system.scripts.get('nix-env')?.(['-p', PROFILE, '--set', byHand], undefined)
      system.links.set(CURRENT, byHand)
      return { exitCode: 11, stderr: ['Could not acquire lock'] }
    })
    const outcome = await applied(system)
    expect(inWords(outcome)).toBe('rolled back')
    expect(outcome.reason).toContain(`${byHand} runs, to which this operation did not switch`)
    expectOldAgain(system)
    expect(loaderDefault(system)).toBe(OLD)
  })

  it('is not begun where somebody switched by hand after the way back was laid, and leaves that alone', async () => {
    const system = sampleMachine()
    const byHand = `/nix/store/${'9'.repeat(32)}-by-hand`
    await using node = await NodeUnderTest.start(system)
    const start = node.units.startTimer.bind(node.units)
    node.units.startTimer = async unit => {
      system.links.set(CURRENT, byHand)
      return await start(unit)
    }
    const outcome = await node.apply(await node.publish(tree))
    expect(inWords(outcome)).toBe('refused not-started')
    expect(outcome.reason).toContain(`${byHand} runs, and the way back leads to ${OLD}`)
    expect(system.links.get(CURRENT)).toBe(byHand)
    expect(system.commands.filter(line => line.includes('switch-to-configuration'))).toEqual([])
  })

  it('T30: goes back, profile and boot entry included, when the boot entry could not be written', async () => {
    const system = sampleMachine()
    system.scripts.set(SWITCH, args =>
      args[0] === 'boot' ? { exitCode: 1 } : goodSwitch(system, NEW)(args, undefined),
    )
    const outcome = await applied(system)
    expect(inWords(outcome)).toBe('rolled back')
    expect(outcome.firstCause).toBe(OutcomeClass.ACTIVATION_FAILED)
    expect(outcome.reason).toContain('its boot entry was not written')
    expectOldAgain(system)
    expect(system.commands.slice(-3)).toEqual([
      `${switchProgram(OLD)} test`,
      `${switchProgram(OLD)} boot`,
      `nix-env -p ${PROFILE} --switch-generation 1`,
    ])
  })

  it.each<[string, (system: ScriptedSystem) => void, string, RegExp]>([
    [
      'lacks the agent',
      system => system.files.delete(join(NEW, 'etc/systemd/system/muster-agent.service')),
      'refused no-agent',
      /cut this node off/,
    ],
    [
      'is made for another machine',
      system => system.files.set(join(NEW, 'system'), 'riscv64-linux'),
      'refused system',
      /riscv64-linux/,
    ],
    [
      'says of no machine',
      system => system.files.delete(join(NEW, 'system')),
      'refused incomplete',
      /no system/,
    ],
    [
      'has no activation script',
      system => system.files.delete(join(NEW, 'activate')),
      'refused incomplete',
      /no activate/,
    ],
    [
      'has no systemd',
      system => system.files.delete(join(NEW, 'systemd/lib/systemd/systemd')),
      'refused incomplete',
      /systemd/,
    ],
    [
      'replaces one that nobody can name',
      system => system.links.delete(CURRENT),
      'refused no-current-system',
      /go back/,
    ],
  ])('refuses a system that %s, and touches nothing', async (_, change, words, reason) => {
    const system = sampleMachine()
    change(system)
    const outcome = await applied(system)
    expect(inWords(outcome)).toBe(words)
    expect(outcome.reason).toMatch(reason)
    expect(system.commands.filter(line => /switch-to|--set/.test(line))).toEqual([])
  })

  it('is refused by a plan alone where the change would be, and the plan says why', async () => {
    const system = sampleMachine()
    const failing: Script = async args => ({
      ...(await goodSwitch(system, NEW)(args, undefined)),
      exitCode: 4,
      stderr: ['activating the configuration...', 'warning: the following units failed: x.service'],
    })
    system.scripts.set(SWITCH, failing)
    await using node = await NodeUnderTest.start(system)
    const revision = await node.publish(tree)
    const planned = async () => {
      const id = await node.order(revision, undefined, true)
      return [inWords(await node.outcome(id)), node.report(id)?.plan?.warnings.join()]
    }
    expect(await planned()).toEqual(['succeeded', expect.not.stringContaining('refused')])
    await node.apply(revision)
    expect(await planned()).toEqual([
      'refused quarantined',
      expect.stringMatching(/^would be refused \(quarantined\): .*x\.service/),
    ])
    await node.operations.acceptLocal(create(OrderSchema, { action: { case: 'retry', value: {} } }))
    system.files.delete(join(NEW, 'etc/systemd/system/muster-agent.service'))
    expect(await planned()).toEqual([
      'refused no-agent',
      expect.stringMatching(/^would be refused \(no-agent\): /),
    ])
    expectOldAgain(system)
  })

  it.each<[string, Partial<OperationsConfig>, string]>([
    ['not allowed to apply', { allow: ['reboot'] }, 'refused not-allowed'],
    ['not allowed to build', { sourceBuild: { enabled: false, leastMemoryBytes: 0 } }, 'refused not-allowed'],
    ['too small to build', { sourceBuild: { enabled: true, leastMemoryBytes: 2 ** 40 } }, 'refused memory'],
    ['told never to activate', { activation: 'never' }, 'refused not-allowed'],
  ])('is refused on a node that is %s', async (_, config, words) => {
    const system = sampleMachine()
    expect(inWords(await applied(system, config))).toBe(words)
    expectUntouched(system)
  })

  it('of a node that never activates succeeds once a person has switched', async () => {
    const system = sampleMachine()
    system.links.set(CURRENT, NEW)
    system.links.set('/root/nix/var/nix/profiles/system-1-link', NEW)
    expect(inWords(await applied(system, { activation: 'never' }))).toBe('succeeded')
  })

  it('is refused where the least memory or version of Nix cannot be shown', async () => {
    await using node = await NodeUnderTest.start(sampleMachine(), {
      sourceBuild: { enabled: true, leastMemoryBytes: 1 },
    })
    const facts = node.facts
    node.facts = create(FactsSchema, { ...facts, memory: create(MemoryFactsSchema) })
    expect(inWords(await node.apply(await node.publish(tree)))).toBe('refused memory')
    node.facts = create(FactsSchema, { ...facts, nixos: create(NixosFactsSchema) })
    expect(inWords(await node.apply(await node.publish(tree, { number: 6, leastNixVersion: '2.4' })))).toBe(
      'refused nix-version',
    )
    node.facts = facts
    expect(inWords(await node.apply(await node.publish(tree, { number: 7, leastNixVersion: '99.1' })))).toBe(
      'refused nix-version',
    )
  })

  it('names a tool that is missing, and the build that failed with its own words', async () => {
    const system = sampleMachine()
    system.scripts.delete('nix-env')
    expect(inWords(await applied(system))).toBe('refused tool-missing')
    const foreign = sampleMachine()
    foreign.scripts.delete('nixos-rebuild')
    expect((await applied(foreign)).reason).toMatch(/^nixos-rebuild: not found: .*is this a NixOS machine\?$/)
    const failing = sampleMachine()
    failing.scripts.set('nixos-rebuild', () => ({
      exitCode: 1,
      stderr: ['error: attribute olaf is missing', 'bye'],
    }))
    const outcome = await applied(failing)
    expect(inWords(outcome)).toBe('build failed')
    expect(outcome).toMatchObject({ exitCode: 1, phase: Phase.BUILD })
    expect(outcome.reason).toContain('attribute olaf is missing')
    const without = sampleMachine()
    without.scripts.delete('nixos-rebuild')
    expect((await applied(without)).reason).toContain('nixos-rebuild: not found')
    const silent = sampleMachine()
    silent.scripts.set('nixos-rebuild', () => ({}))
    expect((await applied(silent)).reason).toContain('left no link')
    for (const machineAfter of [system, failing, without, silent]) expectUntouched(machineAfter)
  })

  it('whose attribute could be taken for more than one is refused before Nix sees it', async () => {
    await using node = await NodeUnderTest.start(sampleMachine())
    const way = {
      case: 'source',
      value: { $typeName: 'muster.v1.SourceBuild', attribute: 'olaf', leastMemoryBytes: 0n },
    } as const
    for (const attribute of ['olaf"; x', 'a.b', '../x', '']) {
      const targets = [sampleTarget({ way: { ...way, value: { ...way.value, attribute } } })]
      const revision = await node.publish(tree, { targets }).catch(() => undefined)
      if (revision) expect(inWords(await node.apply(revision))).toMatch(/^(build failed|refused malformed)$/)
    }
  })
})
