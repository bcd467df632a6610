import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { OperationAckSchema, OrderSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { FactsSchema, MemoryFactsSchema, NixosFactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { ClosureFetchSchema, SafetySchema } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { OutcomeClass, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { pause } from '../../shared/lifecycle.ts'
import { closureDigest } from '../../shared/revision/closure-digest.ts'
import { sampleTarget } from '../../shared/revision/testing/sample-fleet.ts'
import { notFound, unavailable } from '../../shared/rpc/rpc-error.ts'
import { durationFromMs } from '../../shared/time.ts'
import type { OperationsConfig } from './context.ts'
import { MAX_ATTEMPTS } from './next-step.ts'
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

/** What stands before a switch: nothing of the machine was written. */
/** Goes on as a program that was built at this time. */
async function builtAt(node: NodeUnderTest, ms: number): Promise<void> {
  await node.stop()
  node.built = new Date(ms)
  await node.start()
}

function expectUntouched(system: ScriptedSystem): void {
  expect(system.links.get(CURRENT)).toBe(OLD)
  expect(bootDefault(system)).toBe(OLD)
  expect(system.commands.filter(line => line.includes('switch-to-configuration'))).toEqual([])
}

/** What runs, and what the next boot starts, is what ran before. */
function expectOldAgain(system: ScriptedSystem): void {
  expect(system.links.get(CURRENT)).toBe(OLD)
  expect(bootDefault(system)).toBe(OLD)
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

describe('a closure', () => {
  const digest = closureDigest([{ path: NEW, narHash: `sha256:${'a'.repeat(64)}` }]) ?? ''
  const closure = (over: MessageInitShape<typeof ClosureFetchSchema> = {}) =>
    sampleTarget({
      way: {
        case: 'closure',
        value: create(ClosureFetchSchema, {
          storePath: NEW,
          substituters: ['https://cache.home'],
          publicKeys: ['home:key'],
          closureDigest: digest,
          ...over,
        }),
      },
    })
  const storeWith =
    (hash: string): Script =>
    args => {
      if (args.includes('--requisites')) return { stdout: [NEW] }
      if (args.includes('--hash')) return { stdout: [hash] }
      return {}
    }

  const storeThat = (fails: string, why: string): Script => {
    const good = storeWith(`sha256:${'a'.repeat(64)}`)
    return (args, cwd) => (args.includes(fails) ? { exitCode: 1, stderr: [why] } : good(args, cwd))
  }

  async function fetched(target: ReturnType<typeof closure>, script: Script) {
    const system = sampleMachine()
    system.scripts.set('nix-store', script)
    await using node = await NodeUnderTest.start(system)
    return { outcome: await node.apply(await node.publish(tree, { targets: [target] })), system }
  }

  it('is fetched by its name from the places and with the keys that the manifest names', async () => {
    const { outcome, system } = await fetched(closure(), storeWith(`sha256:${'a'.repeat(64)}`))
    expect(inWords(outcome)).toBe('succeeded')
    const fetch = system.commands.find(line => line.includes('--realise')) ?? ''
    expect(fetch).toContain(`--realise ${NEW}`)
    expect(fetch).toContain('--option substituters https://cache.home')
    expect(fetch).toContain('--option trusted-public-keys home:key')
    expect(fetch).toContain('--option require-sigs true')
    expect(fetch).toContain('--option max-jobs 0')
    expect(system.commands.some(line => line.startsWith('nixos-rebuild'))).toBe(false)
  })

  it.each([
    [
      'holds something else than was published',
      storeWith(`sha256:${'b'.repeat(64)}`),
      /is not what was published/,
    ],
    ['cannot be described', storeWith('sha256:what'), /is not what was published/],
    ['cannot be read', storeThat('--hash', 'error: disk I/O error'), /cannot be read/],
    ['is not there', storeThat('--realise', 'error: path is not valid'), /path is not valid/],
  ] as const)('that %s is not activated', async (_, script, reason) => {
    const { outcome, system } = await fetched(closure(), script)
    expect(inWords(outcome)).toBe('fetch failed')
    expect(outcome.reason).toMatch(reason)
    expectUntouched(system)
  })
})

describe('the node’s operations', () => {
  it('take an id that is a path for none: no folder outside of theirs is ever removed', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    const revision = await node.publish(tree)
    for (const id of ['..', '.', '../..', 'a/b', '../trees', '', 'x'.repeat(65), 'a b'])
      await node.order(revision, id)
    expect(node.operations.history()).toEqual([])
    const id = await node.order(revision)
    expect(inWords(await node.outcome(id))).toBe('succeeded')
    expect(existsSync(join(node.stateDir, 'revisions.json'))).toBe(true)
  })

  it('T57: do an order once, however often it comes, and nothing else under its id', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    const revision = await node.publish(tree)
    const id = await node.order(revision)
    const other = await node.publish(tree, { number: 6 })
    await Promise.all([node.order(revision, id), node.order(other, id), node.order(revision, id)])
    await node.outcome(id)
    await node.order(other, id)
    expect(node.operations.history()).toHaveLength(1)
    expect(node.report(id)?.revision).toBe(5n)
    expect(system.commands.filter(line => line === `${SWITCH} test`)).toHaveLength(1)
    expect(node.lines.join('')).toContain('this id was used for another one')
  })

  it('T57: are told of anew when the coordinator asks for what it had acknowledged, and not done again', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    const revision = await node.publish(tree)
    const id = await node.order(revision)
    const { operations } = node
    await node.outcome(id)
    const acknowledge = async () => {
      const [{ phases } = { phases: [] }] = operations.reports()
      const sequence = phases.at(-1)?.sequence ?? 0n
      await operations.acknowledge(create(OperationAckSchema, { operationId: id, sequence, outcome: true }))
    }
    await acknowledge()
    expect(operations.reports()).toEqual([])
    for (const ask of [
      async () => void (await node.order(revision, id)),
      async () => operations.tellAgain(['never-heard-of', id]),
      async () => operations.tellAll(),
    ]) {
      await ask()
      expect(operations.reports()).toMatchObject([
        { operationId: id, outcome: { class: OutcomeClass.SUCCEEDED } },
      ])
      await acknowledge()
      expect(operations.reports()).toEqual([])
    }
    expect(system.commands.filter(line => line === `${SWITCH} test`)).toHaveLength(1)
  })

  it('T60: are passed over while nothing can be written down, and taken on as soon as it can', async () => {
    await using node = await NodeUnderTest.start(sampleMachine())
    const revision = await node.publish(tree)
    const reserve = join(node.stateDir, 'journal.jsonl.reserve')
    await mkdir(reserve)
    const id = await node.order(revision)
    expect(node.operations.history()).toEqual([])
    expect(node.lines.join()).toContain('order passed over: it cannot be recorded')
    const order = create(OrderSchema, { action: { case: 'hold', value: { reason: 'x' } } })
    await expect(node.operations.acceptLocal(order)).rejects.toThrow(/order: it cannot be recorded/)
    await rm(reserve, { recursive: true })
    await node.order(revision, id)
    expect(inWords(await node.outcome(id))).toBe('succeeded')
  })

  it('are bounded while they wait', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    node.connected = false
    const revision = await node.publish(tree)
    for (let count = 0; count < 40; count++) await node.order(revision)
    expect(node.operations.history()).toHaveLength(32)
    node.connected = true
  })

  it('an acknowledgement of more than there is does not damage the journal', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    const id = await node.order(await node.publish(tree))
    await node.outcome(id)
    const ack = { operationId: id, sequence: 2n ** 63n, outcome: true }
    await node.operations.acknowledge(create(OperationAckSchema, ack))
    await node.operations.acknowledge(create(OperationAckSchema, { ...ack, outcome: false }))
    const before = await node.journal()
    await node.operations.acknowledge(create(OperationAckSchema, ack))
    expect(await node.journal()).toBe(before)
    await node.stop()
    await node.start()
    expect(node.operations.reports()).toEqual([])
  })

  it('are taken up again after a stop in any phase before the switch, and end as if nothing had been', async () => {
    for (const command of ['nix-env --version', 'nixos-rebuild']) {
      const system = sampleMachine()
      await using node = await NodeUnderTest.start(system)
      const [name = ''] = command.split(' ')
      const whole = system.scripts.get(name)
      let begun = () => {}
      const isBegun = new Promise<void>(resolve => {
        begun = resolve
      })
      let end = () => {}
      system.scripts.set(name, async () => {
        begun()
        await new Promise<void>(resolve => {
          end = resolve
        })
        return { ending: { kind: 'cancelled' } }
      })
      const id = await node.order(await node.publish(tree))
      await isBegun
      const stopped = node.stop()
      end()
      await stopped
      if (whole) system.scripts.set(name, whole)
      expect(await node.journal()).not.toContain('"kind":"outcome"')
      await node.start()
      expect(inWords(await node.outcome(id))).toBe('succeeded')
    }
  })

  it('are given up after a few attempts, with the class of the phase they never left', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    const id = await node.order(await node.publish(tree, {}))
    await node.outcome(id)
    await node.stop()
    // The journal of a node that was cut off in each of its builds.
    const journal = (await node.journal()).split('\n')
    const build = journal.findIndex(
      line => line.includes('"kind":"started"') && line.includes(`"phase":${Phase.BUILD}`),
    )
    const once = journal.slice(1, build + 1)
    const lines = [journal[0], ...Array.from({ length: MAX_ATTEMPTS }, () => once).flat()]
    const numbered = lines.map((line, at) => JSON.stringify({ ...JSON.parse(line ?? '{}'), seq: at + 1 }))
    await writeFile(join(node.stateDir, 'journal.jsonl'), `${numbered.join('\n')}\n`)
    await node.start()
    const outcome = await node.outcome(id)
    expect(inWords(outcome)).toBe('build failed')
    expect(outcome.reason).toContain(`begun ${MAX_ATTEMPTS} times`)
  })

  it('say so when the agent itself fails, with the class of the phase: nothing was touched yet', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    const revision = await node.publish(tree)
    node.readFacts = async () => {
      throw new Error('no child could be started')
    }
    const outcome = await node.apply(revision)
    expect(inWords(outcome)).toBe('refused agent-failed')
    expect(outcome.reason).toContain('no child could be started')
    expectUntouched(system)
  })

  it('wait for the coordinator until the order expires', async () => {
    await using node = await NodeUnderTest.start(sampleMachine())
    const revision = await node.publish(tree)
    node.connected = false
    const id = await node.order(revision)
    await expect.poll(() => node.report(id)?.phases).toHaveLength(1)
    node.now = new Date(node.now.getTime() + 3_600_001)
    expect(inWords(await node.outcome(id))).toBe('refused expired')
  })

  it('try again while the coordinator fails, and believe it when it says no', async () => {
    await using node = await NodeUnderTest.start(sampleMachine())
    const revision = await node.publish(tree)
    const good = node.answer
    let failures = 3
    node.answer = number => {
      if (failures-- > 0) throw unavailable('restarting')
      return good(number)
    }
    expect(inWords(await node.apply(revision))).toBe('succeeded')
    node.answer = () => {
      throw notFound('no target')
    }
    expect(inWords(await node.apply(revision))).toBe('refused target-mismatch')
  })

  it('T11: refuse everything while the record of accepted revisions is missing or unreadable', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    const revision = await node.publish(tree)
    const file = join(node.stateDir, 'revisions.json')
    const good = await readFile(file)
    for (const text of [
      undefined,
      '',
      '{}',
      'null',
      '{"v":2}',
      '{"v":1,"highest":9,"highestDigest":"","floor":0}',
      '{"v":1,"highest":0,"highestDigest":"","floor":5}',
    ]) {
      await rm(file)
      if (text !== undefined) await writeFile(file, text)
      else await symlink('/no/such/file', file).then(() => rm(file))
      expect(inWords(await node.apply(revision))).toBe('refused missing-state')
      if (text === undefined) expect(existsSync(file)).toBe(false)
      await writeFile(file, good)
    }
    await rm(file)
    await mkdir(file)
    expect(inWords(await node.apply(revision))).toBe('refused missing-state')
    expectUntouched(system)
  })

  it('tell of an accepted revision as soon as a report does, not only when the operation ended', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    let seen: bigint | undefined
    const build = system.scripts.get('nixos-rebuild')
    system.scripts.set('nixos-rebuild', async (args, cwd) => {
      seen = node.operations.memory().highest
      return (await build?.(args, cwd)) ?? {}
    })
    await node.apply(await node.publish(tree))
    expect(seen).toBe(5n)
  })

  it.each([
    ['ahead of', 3_600_000],
    ['behind', -3_600_000],
  ])(
    'refuse while the clock is an hour %s the coordinator’s, whatever it makes of the order',
    async (words, skewMs) => {
      const system = sampleMachine()
      await using node = await NodeUnderTest.start(system)
      const revision = await node.publish(tree)
      const id = `op-skew-${words.slice(0, 5)}`
      node.skewMs = skewMs
      node.now = new Date(node.now.getTime() + skewMs)
      const outcome = await node.outcome(await node.order(revision, id))
      expect(inWords(outcome)).toBe('refused clock')
      expect(outcome.reason).toContain(`3600 s ${words}`)
      expectUntouched(system)
    },
  )

  it('refuse while the clock stands before this node’s own past, once it was waited for', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    // No coordinator has shown its time yet.
    node.skewMs = undefined
    await node.apply(await node.publish(tree))
    const revision = await node.publish(tree, { number: 6 })
    const good = node.now
    node.now = new Date(good.getTime() - 3_600_000)
    const outcome = await node.apply(revision)
    expect(inWords(outcome)).toBe('refused clock')
    expect(outcome.reason).toContain('it is not set')
  })

  it('refuse while the clock stands before the agent’s own build, once it was waited for', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    const revision = await node.publish(tree)
    node.skewMs = undefined
    await builtAt(node, node.now.getTime() + 1)
    const outcome = await node.apply(revision)
    expect(inWords(outcome)).toBe('refused clock')
    expect(outcome.reason).toContain('when this agent was built: it is not set')
    expectUntouched(system)
    await builtAt(node, node.now.getTime())
    expect(inWords(await node.apply(revision))).toBe('succeeded')
  })

  it('refuse what had expired when the agent was built, whatever clock and coordinator agree on', async () => {
    const system = sampleMachine()
    await using node = await NodeUnderTest.start(system)
    const revision = await node.publish(tree)
    node.skewMs = 0
    await builtAt(node, node.now.getTime() + 30 * 86_400_000)
    expect(inWords(await node.apply(revision))).toBe('refused expired')
    expectUntouched(system)
  })

  it('wait for a clock that is not set yet', async () => {
    await using node = await NodeUnderTest.start(sampleMachine(), { clockWaitMs: 20_000 })
    // No coordinator has shown its time yet.
    node.skewMs = undefined
    await node.apply(await node.publish(tree))
    const good = node.now
    const revision = await node.publish(tree, { number: 6 })
    node.now = new Date(good.getTime() - 60_000)
    const id = await node.order(revision)
    await expect.poll(() => node.report(id)?.phases).toHaveLength(1)
    node.now = good
    expect(inWords(await node.outcome(id))).toBe('succeeded')
  })

  it('wait for a clock that is not set yet also where the coordinator shows how far it is off', async () => {
    await using node = await NodeUnderTest.start(sampleMachine(), { clockWaitMs: 20_000 })
    await node.apply(await node.publish(tree))
    const good = node.now
    const revision = await node.publish(tree, { number: 6 })
    node.now = new Date(good.getTime() - 360_000)
    node.skewMs = -360_000
    const id = await node.order(revision)
    await expect.poll(() => node.report(id)?.phases).toHaveLength(1)
    await new Promise(resolve => setTimeout(resolve, 1_000))
    expect(node.report(id)?.outcome).toBeUndefined()
    node.now = good
    node.skewMs = 0
    expect(inWords(await node.outcome(id))).toBe('succeeded')
  })

  it('keep only the newest few builds from the garbage collector', async () => {
    await using node = await NodeUnderTest.start(sampleMachine())
    const revision = await node.publish(tree)
    const ids: string[] = []
    for (let count = 0; count < 5; count++) {
      const id = await node.order(revision)
      await node.outcome(id)
      ids.push(id)
    }
    const kept = () => ids.filter(id => existsSync(join(node.stateDir, 'builds', id)))
    await expect.poll(kept).toEqual(ids.slice(-3))
  })
})
