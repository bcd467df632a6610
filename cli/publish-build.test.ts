// Closure mode with the real Nix: built here, signed, copied to a store, exported, unpacked and fetched again.
import { execFileSync, spawnSync } from 'node:child_process'
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readTarget } from '../shared/revision/read-target.ts'
import { exitCodes } from './exit-codes.ts'
import { runMuster } from './testing/run-muster.ts'
import { type SmallCoordinator, startSmallCoordinator } from './testing/small-coordinator.ts'

const hasNix = spawnSync('nix', ['--version']).status === 0
// As root in a container there are no build users and no sandbox.
const AS_ROOT = ['--option', 'sandbox=false', '--option', 'build-users-group=']
const FEATURES = ['--extra-experimental-features', 'nix-command flakes']

describe.skipIf(!hasNix)('publish --build', () => {
  let coordinator: SmallCoordinator
  let home: string
  let dir: string
  let key: string
  const run = (...words: string[]) =>
    runMuster(words, { settings: { socket: coordinator.socket, configHome: join(home, 'config') } })

  beforeAll(async () => {
    coordinator = await startSmallCoordinator()
    home = await mkdtemp(join(tmpdir(), 'muster-build-'))
    dir = join(home, 'fleet')
    await run('init', dir, '--name', 'built')
    const fleet = await readFile(join(dir, 'fleet.toml'), 'utf8')
    await cp(join(import.meta.dirname, '../test/fixtures/flakes/basic'), dir, {
      recursive: true,
      force: true,
    })
    const withStore = fleet.replace('[defaults]', `store = "file://${home}/store"\n\n[defaults]`)
    await writeFile(
      join(dir, 'fleet.toml'),
      `${withStore}\n[hosts.olaf]\nconfig = "nixosConfigurations.olaf"\n`,
    )
    key = join(home, 'cache.key')
    const secret = execFileSync('nix', [...FEATURES, 'key', 'generate-secret', '--key-name', 'test-1'])
    await writeFile(key, secret, { mode: 0o600 })
    const [fleetId] = await readdir(join(home, 'config/fleets'))
    await run('trust', 'set', join(home, 'config/fleets', fleetId ?? '', 'trust.bin'))
  })
  afterAll(async () => {
    await coordinator[Symbol.asyncDispose]()
    await rm(home, { recursive: true, force: true })
  })

  it('names what was built in the target, signs it and copies it to the store', async () => {
    const file = join(home, 'built.muster')
    const made = await run('publish', dir, '--build', '--signing-key-file', key, ...AS_ROOT, '--export', file)
    expect(made.err).toContain('building olaf')
    expect(made.code).toBe(0)
    const [bytes] = coordinator.revisions[0]?.targets ?? []
    const read = readTarget(bytes ?? new Uint8Array())
    if (read.kind !== 'ok' || read.target.way.case !== 'closure') throw new Error('no target with a closure')
    const { storePath, closureBytes, publicKeys, substituters } = read.target.way.value
    expect(publicKeys).toEqual([expect.stringMatching(/^test-1:[A-Za-z0-9+/]{43}=$/)])
    expect(substituters).toEqual([`file://${home}/store`])
    expect(closureBytes).toBeGreaterThan(0n)
    const hash = storePath.slice('/nix/store/'.length).split('-')[0] ?? ''
    expect(await readFile(join(home, 'store', `${hash}.narinfo`), 'utf8')).toContain('Sig: test-1:')

    // What the file carries is a cache from which the closure verifies with that key alone.
    const cache = join(home, 'cache')
    expect(await run('import', file, '--cache', cache)).toMatchObject({ code: 0 })
    const infos = async (folder: string) =>
      (await readdir(folder)).filter(name => name.endsWith('.narinfo')).sort()
    expect(await infos(cache)).toEqual(await infos(join(home, 'store')))
    const fetched = spawnSync(
      'nix',
      [
        ...FEATURES,
        'copy',
        '--from',
        `file://${cache}`,
        '--to',
        `${home}/elsewhere`,
        '--option',
        'trusted-public-keys',
        publicKeys[0] ?? '',
        storePath,
      ],
      { encoding: 'utf8' },
    )
    expect(fetched.stderr).not.toContain('error')
    expect(fetched.status).toBe(0)
  })

  it('gives the same closure the same target: nothing is published twice', async () => {
    const again = await run('publish', dir, '--build', '--signing-key-file', key, ...AS_ROOT, '-o', 'json')
    expect(JSON.parse(again.out)).toMatchObject({ unchanged: true })
  })

  it('publishes nothing when a build fails, and tells what Nix said', async () => {
    const toml = join(dir, 'fleet.toml')
    const before = await readFile(toml, 'utf8')
    await writeFile(toml, `${before}\n[hosts.nothing]\nconfig = "nixosConfigurations.nothing"\n`)
    const failed = await run('publish', dir, '--build', '--signing-key-file', key, ...AS_ROOT)
    expect(failed.code).toBe(exitCodes.failed.code)
    expect(failed.err).toContain('nothing')
    expect(coordinator.revisions).toHaveLength(1)
    await writeFile(toml, before)
  })

  it('refuses closures that no machine could check', async () => {
    const unsigned = await run('publish', dir, '--build', ...AS_ROOT)
    expect(unsigned.code).toBe(exitCodes.usage.code)
    expect(unsigned.err).toContain('--signing-key-file')
  })

  it('names clusters with their members, and builds Kubernetes where it lives apart', async () => {
    const flake = `{
      outputs = _: let
        made = name: builtins.derivation {
          inherit name;
          system = "x86_64-linux";
          builder = "/bin/sh";
          args = [ "-c" "echo ${'$'}{name} > $out" ];
        };
        host = name: {
          config.system.build.toplevel = made "nixos-system-${'$'}{name}";
          config.muster.kubernetes.profile.package = made "kubernetes-of-${'$'}{name}";
        };
      in { nixosConfigurations = { olaf = host "olaf"; box = host "box"; }; };
    }`
    await writeFile(join(dir, 'flake.nix'), flake)
    const fleet = await readFile(join(dir, 'fleet.toml'), 'utf8')
    const machine = 'a'.repeat(64)
    const clusters = `
      [clusters.home]
      distribution = "k3s"
      version = "1.34.3"
      life = "apart"
      [hosts.box]
      os = "external"
      role = "worker"
      cluster = "home"
    `
    const server = `[hosts.olaf]\nrole = "server"\ncluster = "home"\nmachine = "${machine}"`
    await writeFile(join(dir, 'fleet.toml'), fleet.replace('\n[hosts.olaf]', `\n${server}`) + clusters)
    const made = await run('publish', dir, '--build', '--signing-key-file', key, ...AS_ROOT)
    expect(made).toMatchObject({ code: 0, err: expect.stringContaining('building Kubernetes of box') })
    const { manifest, targets = [] } = coordinator.revisions.at(-1) ?? {}
    expect(manifest?.clusters.get('home')).toEqual({
      cluster: 'home',
      distribution: 'k3s',
      version: '1.34.3',
      endpoint: undefined,
      admitsWorkers: false,
      gates: [],
      members: [
        { host: 'box', role: 'worker', machine: undefined },
        { host: 'olaf', role: 'server', machine },
      ],
    })
    const read = targets.map(bytes => {
      const target = readTarget(bytes)
      if (target.kind === 'refused') throw new Error(target.reason)
      const { host, way, kubernetes } = target.target
      const path = ({ case: kind, value }: typeof way) =>
        kind === 'closure' ? value.storePath.slice(44) : kind
      return [host, path(way), kubernetes && path(kubernetes.way)]
    })
    expect(read.sort()).toEqual([
      ['box', undefined, 'kubernetes-of-box'],
      ['olaf', 'nixos-system-olaf', 'kubernetes-of-olaf'],
    ])
    // Signed anew it says the same.
    expect(await run('publish', dir, '--renew')).toMatchObject({ code: 0 })
    expect(coordinator.revisions.at(-1)?.manifest.clusters).toEqual(manifest?.clusters)
  })
})
