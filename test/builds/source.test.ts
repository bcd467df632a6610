import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { inWords } from '../../agent/operation/testing/node-under-test.ts'
import { OutcomeClass, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { hasNix, nixEnvironment } from '../nix/nix-library.ts'
import {
  allAt,
  freshFlake,
  type NixMachine,
  type NixMachineOptions,
  nixMachine,
  nixStore,
  removeAll,
  sourceTarget,
  temporaryFolder,
} from './nix-machine.ts'

// The node builds from the verified tree: real Nix, a stand-in for nixos-rebuild, the agent's own phases.

afterAll(removeAll)

async function applied(flake: string, host: string, options: NixMachineOptions = {}) {
  const machine = await nixMachine(options)
  await using node = machine.node
  const outcome = await node.apply(await node.publish(flake, { targets: [sourceTarget(host)] }))
  return { outcome, output: node.output.join('\n'), machine, node }
}

const untouched = ({ state, before }: NixMachine) => expect(state()).toEqual(allAt(before))

describe.skipIf(!hasNix)(`source builds ${hasNix ? '' : 'skipped: the command nix is missing'}`, () => {
  it.each([
    ['the Python nixos-rebuild', false],
    ['the bash nixos-rebuild', true],
  ])('N9: build, switch and promote with %s, without a flag that only one of them knows', async (_, bash) => {
    const machine = await nixMachine({ bash })
    await using node = machine.node
    const id = await node.order(await node.publish(freshFlake(), { targets: [sourceTarget('bolt')] }))
    const outcome = await node.outcome(id)
    expect(outcome.reason).toMatch(/^runs \/nix\/store\//)
    expect(inWords(outcome)).toBe('succeeded')
    expect(outcome.storePath).toMatch(/-nixos-system-bolt-26\.05\.standin\.[0-9a-f]{12}$/)
    expect(machine.state()).toEqual(allAt(outcome.storePath))
    const output = node.output.join('\n')
    expect(output).toContain('stand-in: building bolt')
    expect(output).toContain('activating the configuration...')
    expect(output).not.toContain('first build itself anew')
    // T35: a root on disk, which the garbage collector honours.
    const root = join(node.stateDir, 'builds', id, 'result')
    expect(nixStore('--query', '--roots', outcome.storePath)).toContain(root)
  })

  it.each([
    ['exit4', 'rolled back', undefined, /units failed \(exit 4\): broken-service\.service/],
    ['rejected', 'activation failed', 1, /nothing was touched/],
    ['activation2', 'rolled back', undefined, /activation script failed \(exit 2\)/],
    ['newinterface', 'reboot required', undefined, /init-interface.*nothing was touched/],
    ['noagent', 'refused no-agent', undefined, /muster-agent\.service/],
    ['nodeadman', 'refused no-dead-man', undefined, /muster-dead-man\.service/],
    ['othername', 'refused host-name', undefined, /host somebody, this machine is olaf/],
    ['foreign', 'refused system', undefined, /riscv64-linux/],
    ['broken', 'build failed', 1, /nixos-rebuild build: exit code 1: .*error/],
    ['nobody', 'build failed', 1, /does not provide attribute/],
  ])('T30: host %s ends as %s, and everything is as it was before', async (host, words, code, reason) => {
    const { outcome, machine } = await applied(freshFlake(), host)
    expect(inWords(outcome)).toBe(words)
    expect(outcome.exitCode).toBe(code)
    expect(outcome.reason).toMatch(reason)
    expect(outcome.runs).toBe(machine.before)
    const cause = words === 'rolled back' ? OutcomeClass.ACTIVATION_FAILED : OutcomeClass.UNSPECIFIED
    expect(outcome.firstCause).toBe(cause)
    untouched(machine)
  })

  it('folds to "build failed" with the bash variant as well, where the code is always 1', async () => {
    const { outcome } = await applied(freshFlake(), 'nobody', { bash: true })
    expect(inWords(outcome)).toBe('build failed')
    expect(outcome.reason).toContain('does not provide attribute')
  })

  it('T25: a target whose switch failed is not called reached when it is ordered again, unchanged', async () => {
    const machine = await nixMachine()
    await using node = machine.node
    const revision = await node.publish(freshFlake(), { targets: [sourceTarget('exit4')] })
    const first = await node.apply(revision)
    expect(inWords(first)).toBe('rolled back')
    const again = await node.apply(revision)
    expect(inWords(again)).toBe('refused quarantined')
    expect(again.reason).toContain(`${first.storePath} failed here`)
    untouched(machine)
  })

  it('is busy while another switch holds the lock, and touches nothing', async () => {
    const machine = await nixMachine()
    await using node = machine.node
    const lock = join(machine.root, 'run/nixos/switch-to-configuration.lock')
    const holder = spawn('flock', [lock, 'sh', '-c', 'echo held; exec sleep 60'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    try {
      await once(holder.stdout, 'data')
      const revision = await node.publish(freshFlake(), { targets: [sourceTarget('bolt')] })
      const outcome = await node.apply(revision)
      expect(inWords(outcome)).toBe('busy')
      expect(outcome.exitCode).toBe(11)
      untouched(machine)
      holder.kill('SIGKILL')
      await once(holder, 'exit')
    } finally {
      holder.kill('SIGKILL')
    }
  })

  it('does not believe a switch that says 0 while the old system runs on', async () => {
    const flake = freshFlake({ 'toplevel/activate.sh': '#!/bin/sh\nexit 0\n' })
    const { outcome, machine } = await applied(flake, 'bolt')
    expect(inWords(outcome)).toBe('rolled back')
    expect(outcome.firstCause).toBe(OutcomeClass.ACTIVATION_FAILED)
    expect(outcome.reason).toContain(`the switch ended with 0, but /run/current-system is ${machine.before}`)
    untouched(machine)
  })

  it('T30: a boot entry that cannot be written leaves the old boot default whole', async () => {
    const flake = freshFlake({
      'toplevel/switch-to-configuration.sh': text =>
        text.replace('# The lock, as', '[ "$action" != boot ] || exit 1\n# The lock, as'),
    })
    const { outcome, machine, output } = await applied(flake, 'bolt')
    expect(inWords(outcome)).toBe('rolled back')
    expect(outcome.reason).toContain('its boot entry was not written')
    expect(output).toContain('activating the configuration...')
    untouched(machine)
  })

  it('is refused below the stated least memory, before anything is fetched or built', async () => {
    const { outcome, machine, node } = await applied(freshFlake(), 'bolt', {
      config: { sourceBuild: { enabled: true, leastMemoryBytes: 64 * 1024 ** 3 } },
    })
    expect(inWords(outcome)).toBe('refused memory')
    expect(outcome.phase).toBe(Phase.PREFLIGHT)
    expect(outcome.reason).toContain(`${64 * 1024 ** 3}`)
    untouched(machine)
    expect(existsSync(join(node.stateDir, 'trees'))).toBe(false)
  })

  it('is ended at its deadline, with all it started', async () => {
    const flake = freshFlake({ 'hosts.nix': text => text.replace('buildTicks = 8', 'buildTicks = 600') })
    const { outcome } = await applied(flake, 'slow', { config: { buildDeadlineMs: 1_500 } })
    expect(inWords(outcome)).toBe('build failed')
    expect(outcome.reason).toContain('not done within 1500 ms')
  })
})

describe.skipIf(!hasNix)(`the verified tree ${hasNix ? '' : 'skipped: the command nix is missing'}`, () => {
  const withOutputs = (text: string) => ({
    'flake.nix': `{ ${text} outputs = { self, ... }@inputs: { nixosConfigurations = import ./configurations.nix; }; }\n`,
  })

  it('is all there is: an input that its lock file does not pin fails the build and is not fetched', async () => {
    const other = temporaryFolder()
    writeFileSync(join(other, 'flake.nix'), '{ outputs = _: { }; }')
    for (const [input, reason] of [
      [`inputs.other.url = "path:${other}";`, 'requires lock file changes'],
      ['inputs.nixpkgs = { };', 'registry lookups are not allowed'],
      ['inputs.x.url = "nixpkgs";', 'registry lookups are not allowed'],
    ] as const) {
      const { outcome, machine } = await applied(freshFlake(withOutputs(input)), 'bolt')
      expect(inWords(outcome)).toBe('build failed')
      expect(outcome.reason).toContain(reason)
      untouched(machine)
    }
  })

  it('cannot look at what is around it, though all of it is there to be seen', async () => {
    const outside = temporaryFolder()
    writeFileSync(join(outside, 'default.nix'), '{ }')
    writeFileSync(join(outside, 'flake.nix'), '{ outputs = _: { }; }')
    execFileSync('tar', ['-czf', join(outside, 'x.tar.gz'), '-C', outside, 'default.nix'])
    const looks: [expression: string, reason: RegExp | undefined][] = [
      ['builtins.getEnv "MUSTER_STANDIN_ROOT" == "" && builtins.getEnv "HOME" == ""', undefined],
      ['import <nixpkgs> == { }', /file 'nixpkgs' was not found|cannot look up '<nixpkgs>'/],
      ['builtins.currentSystem != ""', /currentSystem/],
      ['builtins.currentTime > 0', /currentTime/],
      [`import ${outside}/default.nix == { }`, /forbidden|not allowed|restricted/],
      [`builtins.fetchTarball "file://${outside}/x.tar.gz" != null`, /requires a 'sha256'|hash/],
      [`builtins.getFlake "path:${outside}" != null`, /unlocked/],
    ]
    for (const [expression, reason] of looks) {
      const flake = freshFlake({
        'flake.nix': `{ outputs = _: assert ${expression}; { nixosConfigurations = import ./configurations.nix; }; }\n`,
      })
      const { outcome } = await applied(flake, 'bolt', { env: { NIX_PATH: `nixpkgs=${outside}` } })
      expect([expression, inWords(outcome)]).toEqual([expression, reason ? 'build failed' : 'succeeded'])
      if (reason) expect(outcome.reason).toMatch(reason)
    }
  })

  it('brings no settings of Nix: what its nixConfig asks for is not done', async () => {
    const folder = temporaryFolder()
    const hook = join(folder, 'hook')
    writeFileSync(hook, `#!/bin/sh\n: >${folder}/ran\n`, { mode: 0o755 })
    const nixConfig = `nixConfig = { post-build-hook = "${hook}"; pure-eval = false; };`
    // Also where the machine itself would take them.
    const env = { NIX_CONFIG: `${nixEnvironment.NIX_CONFIG}\naccept-flake-config = true` }
    const { outcome, output } = await applied(freshFlake(withOutputs(nixConfig)), 'bolt', { env })
    expect(inWords(outcome)).toBe('succeeded')
    expect(output).toContain('post-build-hook')
    expect(readdirSync(folder)).toEqual(['hook'])
  })

  it('is built as it was signed: the same tree gives the same system on two nodes', async () => {
    const flake = freshFlake()
    const [one, two] = [await applied(flake, 'bolt'), await applied(flake, 'bolt')]
    expect(one.outcome.storePath).toBe(two.outcome.storePath)
  })
})
