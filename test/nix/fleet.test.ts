import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { describeFleet, unitSection } from './described.ts'
import { evaluate, whyNoNixTests } from './nix-library.ts'

const why = whyNoNixTests()
const pin = 'cd'.repeat(32)
const folders: string[] = []
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true })
})

/** A fleet directory with this fleet.toml, below a `[fleet]` of its own, and these other files. */
function fleetFolder(toml: string, files: Readonly<Record<string, string>> = {}): string {
  const folder = mkdtempSync(join(tmpdir(), 'muster-fleet-'))
  folders.push(folder)
  const whole = `[fleet]\nname = "home"\nid = "5f1c0a7be2d94c3386a1f0d2b7c4e895"\n${toml}`
  for (const [path, text] of Object.entries({ 'fleet.toml': whole, ...files })) {
    mkdirSync(dirname(join(folder, path)), { recursive: true })
    writeFileSync(join(folder, path), text)
  }
  return folder
}

const agentSettings = `modules = [ { services.muster.agent = { coordinator = "c.home:7443"; caPin = "${pin}"; }; } ];`
const configurationsOf = (toml: string, files: Readonly<Record<string, string>> = {}, more = '') =>
  describeFleet(fleetFolder(toml, files), `${agentSettings} ${more}`)

describe.skipIf(why !== undefined)(`mkFleet ${why ?? ''}`, () => {
  test('gives a host its name, platform, network and agent', () => {
    const { olaf } = configurationsOf(`
      [defaults]
      prefix-length = 24
      gateway = "10.0.100.1"
      nameservers = ["10.0.100.1", "9.9.9.9"]
      [hosts.olaf]
      address = "10.0.100.2"
      interface = "enp0s20f0"
      system = "aarch64-linux"
    `)
    expect(olaf).toMatchObject({
      failedAssertions: [],
      hostPlatform: 'aarch64-linux',
      networking: { hostName: 'olaf', useDHCP: false, nameservers: ['10.0.100.1', '9.9.9.9'] },
      settings: { 'muster/agent.json': { coordinator: 'c.home:7443', caPin: pin } },
    })
    expect(olaf?.networks).toEqual({
      '10-muster': {
        matchConfig: { Name: 'enp0s20f0' },
        networkConfig: { DHCP: 'no' },
        address: ['10.0.100.2/24'],
        gateway: ['10.0.100.1'],
      },
    })
    const start = unitSection(olaf?.units['muster-agent.service'], 'Service').get('ExecStart')?.[0]
    expect(start).toContain('agent-aarch64-linux')
  })

  test('leaves the interface to the machine with DHCP, and drops what only a fixed address needs', () => {
    const { a, b } = configurationsOf(`
      [defaults]
      prefix-length = 24
      gateway = "10.0.100.1"
      [hosts.a]
      [hosts.b]
      interface = "eth0"
    `)
    expect(a).toMatchObject({ failedAssertions: [], networks: {}, networking: { useDHCP: true } })
    expect(b?.networking.useDHCP).toBe(false)
    expect(b?.networks['10-muster']).toEqual({
      matchConfig: { Name: 'eth0' },
      networkConfig: { DHCP: 'yes' },
      address: [],
      gateway: [],
    })
  })

  test('finds the interface of a fixed address by the MAC that the host is bound to, and guesses none', () => {
    const { a, b } = configurationsOf(`
      [defaults]
      prefix-length = 64
      [hosts.a]
      address = "fd00::2"
      mac = "52:54:00:AB:CD:EF"
      [hosts.b]
      address = "fd00::3"
    `)
    expect(a?.networks['10-muster']).toMatchObject({
      matchConfig: { PermanentMACAddress: '52:54:00:ab:cd:ef' },
      address: ['fd00::2/64'],
    })
    expect(b?.failedAssertions).toEqual([expect.stringContaining('[hosts.b]: the address fd00::3 is fixed')])
  })

  test('takes host over group over defaults, and merges labels, users and extra', () => {
    const { ulf } = configurationsOf(`
      [defaults]
      labels = { site = "home", rack = "none" }
      extra = { backup = { hour = 1, keep = 7 }, list = [1, 2] }
      nameservers = ["1.1.1.1"]
      [defaults.users.ada]
      keys = ["ssh-ed25519 AAAAdefault ada"]
      [defaults.users.eve]
      keys = ["ssh-ed25519 AAAAeve eve"]
      [clusters.c]
      distribution = "k3s"
      [groups.edge]
      role = "worker"
      cluster = "c"
      labels = { rack = "b" }
      extra = { backup = { hour = 2 } }
      [hosts.ulf]
      group = "edge"
      labels = { disk = "ssd" }
      extra = { backup = { target = "nas" }, list = [3] }
      nameservers = []
      [hosts.ulf.users.ada]
      keys = ["ssh-ed25519 AAAAhost ada"]
    `)
    expect(ulf?.muster).toMatchObject({
      host: 'ulf',
      group: 'edge',
      role: 'worker',
      cluster: 'c',
      labels: { site: 'home', rack: 'b', disk: 'ssd' },
      extra: { backup: { hour: 2, keep: 7, target: 'nas' }, list: [3] },
      fleet: { name: 'home', id: '5f1c0a7be2d94c3386a1f0d2b7c4e895' },
    })
    expect(ulf?.users.ada?.openssh.authorizedKeys.keys).toEqual(['ssh-ed25519 AAAAhost ada'])
    expect(ulf?.users.eve).toMatchObject({ isNormalUser: true, extraGroups: ['wheel'] })
    expect(ulf?.openssh).toBe(true)
    expect(ulf?.networking.nameservers).toEqual([])
  })

  test('a host without a role belongs to no cluster, even if its group names one', () => {
    const { a } = configurationsOf(`
      [clusters.c]
      distribution = "k3s"
      [groups.g]
      role = "worker"
      cluster = "c"
      [hosts.a]
      group = "g"
      role = "none"
    `)
    expect(a?.muster).toMatchObject({ role: 'none', cluster: null })
  })

  test('makes one configuration for a group that admits machines, without the name of any', () => {
    const made = configurationsOf(`
      [clusters.c]
      distribution = "k3s"
      [groups.edge]
      admit = "facts.system.product == 'N100'"
      name = "edge-{serial}"
      role = "worker"
      cluster = "c"
      [groups.settings-only]
      labels = { a = "b" }
    `)
    expect(Object.keys(made)).toEqual(['edge'])
    expect(made.edge).toMatchObject({
      systemName: 'edge',
      networking: { hostName: '' },
      muster: { host: null, group: 'edge', role: 'worker', cluster: 'c' },
    })
  })

  test('makes none for a host with a configuration of its own, and none for another operating system', () => {
    const made = configurationsOf(`
      [groups.foreign]
      os = "external"
      [hosts.nas]
      config = "nixosConfigurations.nas"
      [hosts.router]
      os = "external"
      [hosts.switch]
      group = "foreign"
      [hosts.olaf]
    `)
    expect(Object.keys(made)).toEqual(['olaf'])
  })

  test('adds the modules of groups and hosts in the folder, and those that the flake gives', () => {
    const made = configurationsOf(
      `[groups.g]\n[hosts.a]\ngroup = "g"\nextra = { server = "time.home" }\n[hosts.b]\n`,
      {
        'groups/g.nix': '{ services.muster.agent.activation = "never"; }',
        'hosts/a.nix': '{ host, lib, ... }: { networking.nameservers = [ host.extra.server ]; }',
        'hosts/b.nix': '{ config, ... }: { networking.hostName = "renamed"; }',
      },
      'hosts.b = { networking.useDHCP = false; }; specialArgs.word = "w";',
    )
    expect(made.a?.settings['muster/agent.json']).toMatchObject({ activation: 'never' })
    expect(made.a?.networking.nameservers).toEqual(['time.home'])
    expect(made.b?.settings['muster/agent.json']).toMatchObject({ activation: 'switch' })
    expect(made.b?.networking).toMatchObject({ hostName: 'renamed', useDHCP: false })
  })

  test('what the file says is a default: a module of the host overrides it without force', () => {
    const { a } = configurationsOf(`[hosts.a]\nsystem = "x86_64-linux"\n`, {
      'hosts/a.nix':
        '{ muster.network.enable = false; services.muster.agent.enable = false; nixpkgs.hostPlatform = "riscv64-linux"; }',
    })
    expect(a).toMatchObject({ units: {}, networks: {}, hostPlatform: 'riscv64-linux' })
  })

  test('what the file says of the network counts beside a generated hardware-configuration.nix', () => {
    const { a } = configurationsOf(
      `[hosts.a]\naddress = "10.0.0.11"\nprefix-length = 24\ninterface = "eth0"\n`,
      {
        'hosts/a.nix': `{ lib, ... }: {
          networking.useDHCP = lib.mkDefault true;
          nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
        }`,
      },
    )
    expect(a?.networking).toMatchObject({ useDHCP: false, useNetworkd: true })
    expect(a?.networks['10-muster']?.address).toEqual(['10.0.0.11/24'])
  })

  test('each setting of the network is a default for itself, and follows the interface', () => {
    const toml = `[defaults]
      prefix-length = 24
      gateway = "10.0.0.1"
      interface = "eth0"
      [hosts.a]
      address = "10.0.0.11"
      [hosts.b]
    `
    const { a, b } = configurationsOf(toml, {
      'hosts/a.nix': `{
        networking.useDHCP = true;
        muster.interface = "eth1";
        systemd.network.networks."10-muster" = { address = [ "10.0.0.99/24" ]; gateway = [ "10.0.0.2" ]; };
      }`,
      'hosts/b.nix': '{ systemd.network.networks."10-muster".networkConfig.DHCP = "ipv4"; }',
    })
    expect(a?.networking.useDHCP).toBe(true)
    expect(a?.networks['10-muster']).toEqual({
      matchConfig: { Name: 'eth1' },
      networkConfig: { DHCP: 'no' },
      address: ['10.0.0.99/24'],
      gateway: ['10.0.0.2'],
    })
    expect(b?.networks['10-muster']).toMatchObject({
      matchConfig: { Name: 'eth0' },
      networkConfig: { DHCP: 'ipv4' },
    })
  })

  test('what the file says of a host is a default, labels and extra key by key', () => {
    const toml = `[hosts.a]
      labels = { site = "home", rack = "a" }
      extra = { backup = { hour = 1, keep = 7 }, list = [1, 2] }
    `
    const { a } = configurationsOf(toml, {
      'hosts/a.nix': `{
        muster.labels.rack = "b";
        muster.extra = { backup.hour = 2; list = [ 3 ]; more = true; };
        muster.fleet.name = "other";
        muster.group = "g";
      }`,
    })
    expect(a?.muster).toMatchObject({
      host: 'a',
      group: 'g',
      labels: { site: 'home', rack: 'b' },
      extra: { backup: { hour: 2, keep: 7 }, list: [3], more: true },
      fleet: { name: 'other', id: '5f1c0a7be2d94c3386a1f0d2b7c4e895' },
    })
  })

  test('takes the packages of a host from the input that the file names', () => {
    const made = configurationsOf(
      `[hosts.a]\n[hosts.b]\nnixpkgs = "nixpkgs-stable"\n`,
      {},
      `inputs = {
         inherit (e) nixpkgs;
         nixpkgs-stable = { lib = e.lib // { nixosSystem = arguments:
           e.nixpkgs.lib.nixosSystem (arguments // { modules = arguments.modules ++ [ { system.name = "stable"; } ]; }); }; };
       };`,
    )
    expect(made.a?.systemName).toBe('a')
    expect(made.b?.systemName).toBe('stable')
    expect(() => configurationsOf(`[hosts.a]\nnixpkgs = "gone"\n`)).toThrow(
      /the input `gone`.*name one of: nixpkgs/s,
    )
  })

  test('T12: texts of the file stay data, whatever they hold', () => {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is Nix that must not read it as one
    const nasty = '${builtins.abort \\"x\\"}\'\'../\\u0041'
    const { a } = configurationsOf(`[hosts.a]\nextra = { text = "${nasty}" }\n`)
    // biome-ignore lint/suspicious/noTemplateCurlyInString: as above
    expect(a?.muster).toMatchObject({ extra: { text: '${builtins.abort "x"}\'\'../A' } })
  })

  test.each([
    ['[hosts.a]\ngroup = "gone"\n', /there is no group gone/],
    ['[hosts.a]\naddress = "10.0.0.2"\ninterface = "eth0"\n', /\[hosts\.a\] lacks `prefix-length`/],
    ['[hosts.a]\nrole = "worker"\n', /\[hosts\.a\] lacks `cluster`/],
    ['[hosts.a]\n[groups.a]\nadmit = "true"\nname = "a-{serial}"\n', /name of a host and of a group/],
  ])('names the place of a mistake: %j', (toml, message) => {
    expect(() => configurationsOf(toml)).toThrow(message)
  })

  test('names a host that only the flake knows, and a folder without a fleet file', () => {
    expect(() => configurationsOf('[hosts.a]\n', {}, 'hosts.b = { };')).toThrow(/modules for b/)
    expect(() => describeFleet(tmpdir())).toThrow(/fleet\.toml: no such file/)
  })

  test('takes a fleet of two thousand hosts', () => {
    const hosts = Array.from({ length: 2000 }, (_, index) => `[hosts.h${index}]\nextra = { n = ${index} }\n`)
    const names = evaluate(
      `builtins.length (builtins.attrNames (e.flake.lib.mkFleet { src = ${fleetFolder(hosts.join(''))}; inputs = { }; }))`,
    )
    expect(names).toBe(2000)
  })
})
