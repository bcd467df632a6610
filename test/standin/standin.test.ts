import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { readFleetFile } from '../../shared/fleet-file/read-fleet-file.ts'
import { hasNix, nixEnvironment } from '../nix/nix-library.ts'

// The stand-ins keep the contract that the agent relies on; here they are held to it.

const here = import.meta.dirname
const folders: string[] = []
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true })
})

function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'muster-standin-'))
  folders.push(folder)
  return folder
}

/** A copy of the flake, so that a test may change it. */
function flakeFolder(): string {
  const folder = join(temporaryFolder(), 'flake')
  cpSync(join(here, '../fixtures/flakes/basic'), folder, { recursive: true })
  return folder
}

interface Ended {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

function run(program: string, args: readonly string[], cwd: string, env: Record<string, string> = {}): Ended {
  const base = { ...nixEnvironment, MUSTER_STANDIN_ROOT: undefined }
  return spawnSync(program, args, { cwd, env: { ...base, ...env }, encoding: 'utf8' })
}

const hermetic = ['--no-update-lock-file', '--option', 'accept-flake-config', 'false', '--offline']

function rebuild(
  action: string,
  host: string,
  { flake = basic, env = {}, program = 'nixos-rebuild', more = hermetic } = {},
) {
  const cwd = temporaryFolder()
  const args = [action, '--flake', `path:${flake}#${host}`, '--no-reexec', ...more]
  return { ...run(join(here, program), args, cwd, env), cwd }
}

/** A folder that looks like the root of a machine that runs the first host. */
function machineRoot(toplevel: string): string {
  const root = join(temporaryFolder(), 'root')
  const { status, stderr } = run(join(here, 'prepare-root'), [root, toplevel], '/')
  expect(stderr).toContain('stand-in')
  expect(status).toBe(0)
  return root
}

const basic = join(here, '../fixtures/flakes/basic')
const current = (root: string) => readlinkSync(join(root, 'run/current-system'))
const profile = (root: string) => {
  const folder = join(root, 'nix/var/nix/profiles')
  return readlinkSync(join(folder, readlinkSync(join(folder, 'system'))))
}
const built = (host: string) => rebuild('build', host).stdout.trim()

test('the fleet file beside the stand-in systems passes the check, and each host is one of them', () => {
  const text = readFileSync(join(basic, 'fleet.toml'), 'utf8')
  const result = readFleetFile(text, 'fleet.toml')
  expect(result).toMatchObject({ ok: true, problems: [] })
  const systems = readFileSync(join(basic, 'hosts.nix'), 'utf8')
  for (const host of result.ok ? result.fleet.hosts : []) {
    expect(host).toMatchObject({ attribute: host.name, ownConfig: true })
    expect(systems).toMatch(new RegExp(`^  ${host.name}[. ]`, 'm'))
  }
})

describe.skipIf(!hasNix)(
  `the stand-in for nixos-rebuild ${hasNix ? '' : 'skipped: the command nix is missing'}`,
  () => {
    test('build leaves ./result and says on stdout the store path, nothing else', () => {
      const { status, stdout, stderr, cwd } = rebuild('build', 'olaf')
      expect(status).toBe(0)
      expect(stdout).toMatch(/^\/nix\/store\/[0-9a-z]{32}-nixos-system-olaf-26\.05\.standin\.1\n$/)
      expect(readlinkSync(join(cwd, 'result'))).toBe(stdout.trim())
      expect(stderr).toContain('this is a stand-in')
    })

    test('builds something that is laid out like a NixOS system', () => {
      const toplevel = built('olaf')
      expect(readdirSync(toplevel)).toEqual(
        expect.arrayContaining([
          ...['activate', 'bin', 'boot.json', 'etc', 'init', 'init-interface-version', 'initrd', 'kernel'],
          ...[
            'kernel-modules',
            'kernel-params',
            'nixos-version',
            'specialisation',
            'sw',
            'system',
            'systemd',
          ],
        ]),
      )
      expect(existsSync(join(toplevel, 'etc/systemd/system/muster-agent.service'))).toBe(true)
      expect(existsSync(join(toplevel, 'etc/systemd/system/muster-dead-man.service'))).toBe(true)
      expect(existsSync(join(built('nodeadman'), 'etc/systemd/system/muster-dead-man.service'))).toBe(false)
      expect(readFileSync(join(toplevel, 'etc/hostname'), 'utf8')).toBe('olaf\n')
      expect(existsSync(join(built('noagent'), 'etc/systemd/system/muster-agent.service'))).toBe(false)
      expect(readFileSync(join(built('foreign'), 'system'), 'utf8')).toBe('riscv64-linux')
    })

    test('another generation is another path, and the same one the same', () => {
      const flake = flakeFolder()
      const first = rebuild('build', 'olaf', { flake }).stdout
      expect(first.trim()).toBe(built('olaf'))
      writeFileSync(join(flake, 'generation'), '2\n')
      expect(rebuild('build', 'olaf', { flake }).stdout).toMatch(/standin\.2\n$/)
    })

    test.each([
      ['broken', 'this build fails on purpose'],
      ['nobody', 'does not provide attribute'],
    ])('hands through the failure of the build: %s', (host, message) => {
      const { status, stdout, stderr, cwd } = rebuild('build', host)
      expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
      expect(stderr).toContain(message)
      expect(existsSync(join(cwd, 'result'))).toBe(false)
    })

    test('a file that no parser understands is a failure of the evaluation', () => {
      const flake = flakeFolder()
      writeFileSync(join(flake, 'configurations.nix'), '{ olaf = ')
      expect(rebuild('build', 'olaf', { flake })).toMatchObject({ status: 1, stdout: '' })
    })

    test('shows the lines of a build while it runs', async () => {
      const flake = flakeFolder()
      writeFileSync(join(flake, 'generation'), `${process.pid}-${Date.now()}\n`)
      const args = ['build', '--flake', `path:${flake}#slow`, '--no-reexec', '-L', ...hermetic]
      const child = spawn(join(here, 'nixos-rebuild'), args, { cwd: temporaryFolder(), env: nixEnvironment })
      let seen = ''
      child.stderr.setEncoding('utf8').on('data', chunk => {
        seen += chunk
      })
      const ended = once(child, 'exit')
      await expect.poll(() => seen, { timeout: 20_000 }).toContain('step 2 of 8')
      expect(child.exitCode).toBeNull()
      expect(await ended).toEqual([0, null])
      expect(seen).toContain('step 8 of 8')
    })

    test.each([
      ['bolt', 0, 'new'],
      ['exit4', 4, 'new'],
      ['activation2', 2, 'old'],
      ['newinterface', 100, 'old'],
      ['rejected', 1, 'old'],
    ])('switch to %s ends with %i, and the running system is the %s one', (host, code, running) => {
      const before = built('olaf')
      const root = machineRoot(before)
      const { status, stderr } = rebuild('switch', host, { env: { MUSTER_STANDIN_ROOT: root } })
      expect({ status, stderr }).toMatchObject({ status: code })
      const after = built(host)
      expect(current(root)).toBe(running === 'new' ? after : before)
      // The profile moves before the activation and stays moved, as with the real one.
      expect(profile(root)).toBe(after)
    })

    test('the variant of old releases folds every code to 1 and names the path by its link only', () => {
      const root = machineRoot(built('olaf'))
      const program = 'nixos-rebuild-bash'
      expect(rebuild('switch', 'exit4', { program, env: { MUSTER_STANDIN_ROOT: root } })).toMatchObject({
        status: 1,
      })
      const { status, stdout, cwd } = rebuild('build', 'olaf', { program })
      expect({ status, stdout }).toEqual({ status: 0, stdout: '' })
      expect(readlinkSync(join(cwd, 'result'))).toBe(built('olaf'))
    })

    test('boot moves the profile and the boot entry, and nothing that runs', () => {
      const before = built('olaf')
      const root = machineRoot(before)
      expect(rebuild('boot', 'bolt', { env: { MUSTER_STANDIN_ROOT: root } }).status).toBe(0)
      expect({ current: current(root), profile: profile(root) }).toEqual({
        current: before,
        profile: built('bolt'),
      })
      expect(readFileSync(join(root, 'boot/loader/loader.conf'), 'utf8')).toBe(`default ${built('bolt')}\n`)
    })

    test('test activates and leaves the profile alone', () => {
      const before = built('olaf')
      const root = machineRoot(before)
      expect(rebuild('test', 'bolt', { env: { MUSTER_STANDIN_ROOT: root } }).status).toBe(0)
      expect({ current: current(root), profile: profile(root) }).toEqual({
        current: built('bolt'),
        profile: before,
      })
    })

    test('refuses an option that it does not know instead of ignoring it', () => {
      expect(rebuild('build', 'olaf', { more: ['--target-host', 'x'] })).toMatchObject({
        status: 1,
        stdout: '',
      })
    })

    test('without a folder to act on it touches nothing and says so', () => {
      const { status, stdout, stderr } = rebuild('switch', 'olaf')
      expect({ status, stdout }).toEqual({ status: 1, stdout: '' })
      expect(stderr).toContain('refused')
    })

    test('an input that the lock file does not pin is refused by --no-update-lock-file, unless --no-write-lock-file is there', () => {
      const flake = flakeFolder()
      const other = join(temporaryFolder(), 'other')
      mkdirSync(other)
      writeFileSync(join(other, 'flake.nix'), '{ outputs = _: { }; }')
      writeFileSync(
        join(flake, 'flake.nix'),
        `{ inputs.other.url = "path:${other}"; outputs = _: { nixosConfigurations = import ./configurations.nix; }; }`,
      )
      const refused = rebuild('build', 'olaf', { flake })
      expect(refused.status).toBe(1)
      expect(refused.stderr).toContain('requires lock file changes')
      // Why the agent must not give both: the second flag turns the refusal into a warning.
      expect(rebuild('build', 'olaf', { flake, more: [...hermetic, '--no-write-lock-file'] }).status).toBe(0)
    })
  },
)

describe.skipIf(!hasNix)(
  `the stand-in for switch-to-configuration ${hasNix ? '' : 'skipped: the command nix is missing'}`,
  () => {
    const program = (host: string) => join(built(host), 'bin/switch-to-configuration')

    test.each([
      ['no folder', {}],
      ['a folder that is /', { MUSTER_STANDIN_ROOT: '/' }],
      ['a folder that leads to /', { MUSTER_STANDIN_ROOT: '/proc/self/root' }],
      ['a relative folder', { MUSTER_STANDIN_ROOT: 'root' }],
      ['a folder that is missing', { MUSTER_STANDIN_ROOT: '/no/such/folder' }],
    ])('refuses %s, so it cannot touch the machine it runs on', (_, env) => {
      const { status, stderr } = run(program('olaf'), ['switch'], tmpdir(), env)
      expect({ status, stderr }).toEqual({ status: 1, stderr: expect.stringMatching(/^stand-in: refused/) })
    })

    test('needs a NixOS machine', () => {
      expect(run(program('olaf'), ['test'], '/', { MUSTER_STANDIN_ROOT: temporaryFolder() })).toMatchObject({
        status: 2,
        stderr: 'stand-in: This is not a NixOS installation!\n',
      })
    })

    test('says of every line that it is a stand-in, and names an action it does not know', () => {
      const env = { MUSTER_STANDIN_ROOT: machineRoot(built('olaf')) }
      for (const [host, action] of [
        ['exit4', 'switch'],
        ['activation2', 'test'],
        ['bolt', 'dry-activate'],
        ['bolt', 'x'],
      ] as const) {
        const { stdout, stderr } = run(program(host), [action], '/', env)
        expect(
          `${stdout}${stderr}`
            .trimEnd()
            .split('\n')
            .filter(line => !line.startsWith('stand-in: ')),
          // The one line that others read is as the real program writes it, and is announced.
        ).toEqual(host === 'exit4' ? ['warning: the following units failed: broken-service.service'] : [])
      }
      expect(run(program('bolt'), ['x'], '/', env).status).toBe(1)
    })

    test('holds the lock while it activates, and ends with 11 when another holds it', async () => {
      const root = machineRoot(built('olaf'))
      const env = { ...nixEnvironment, MUSTER_STANDIN_ROOT: root }
      const first = spawn(program('slowswitch'), ['test'], { env, stdio: ['ignore', 'pipe', 'ignore'] })
      await once(first.stdout, 'data')
      const second = run(program('bolt'), ['test'], '/', { MUSTER_STANDIN_ROOT: root })
      expect(second).toMatchObject({ status: 11, stderr: 'stand-in: Could not acquire lock\n' })
      expect(readFileSync(join(root, 'run/nixos/start-list'), 'utf8')).toBe('multi-user.target\n')
      expect(await once(first, 'exit')).toEqual([0, null])
      expect(current(root)).toBe(built('slowswitch'))
      expect(existsSync(join(root, 'run/nixos/start-list'))).toBe(false)
    })

    test('opens and closes its line in the journal, also after a failure', () => {
      const root = machineRoot(built('olaf'))
      run(program('exit4'), ['test'], '/', { MUSTER_STANDIN_ROOT: root })
      expect(readFileSync(join(root, 'run/nixos/standin-journal'), 'utf8')).toBe(
        `switching to system configuration ${built('exit4')}\n` +
          `switching to system configuration ${built('exit4')} failed (status 4)\n`,
      )
    })
  },
)
