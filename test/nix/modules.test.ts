import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { parseConfig as parseAgentConfig, VERBS } from '../../agent/config.ts'
import { parseConfig as parseCoordinatorConfig } from '../../coordinator/config.ts'
import { commandsOfAgent } from './agent-commands.ts'
import { type Described, describeModule, unitSection } from './described.ts'
import { evaluate, whyNoNixTests } from './nix-library.ts'

const why = whyNoNixTests()
const pin = 'ab'.repeat(32)
const folder = mkdtempSync(join(tmpdir(), 'muster-modules-'))
afterAll(() => rmSync(folder, { recursive: true }))

const agentWith = (settings: string, more = '', release?: '25.05' | '26.05') =>
  describeModule(
    'agent',
    `{ services.muster.agent = { enable = true; coordinator = "c.home:7443"; caPin = "${pin}"; } // { ${settings} }; } ${more}`,
    release,
  )
/** Names of the packages in a unit's PATH. */
function toolsOf({ units }: Described, unit: string): (string | undefined)[] {
  const environment = unitSection(units[unit], 'Service').get('Environment')
  const path = environment?.find(line => line.startsWith('"PATH=')) ?? ''
  return [...path.matchAll(/\/nix\/store\/0+-([^/]+)\/bin/g)].map(match => match[1])
}
/** What packages of nixpkgs have in `bin` or `sbin`, as far as the agent starts it by name. */
const PROGRAMS: Readonly<Record<string, readonly string[]>> = {
  coreutils: ['chmod', 'chown', 'uname'],
  dmidecode: ['dmidecode'],
  iproute2: ['ip'],
  iputils: ['ping'],
  nix: ['nix', 'nix-env', 'nix-store'],
  'nixos-rebuild': ['nixos-rebuild'],
  pciutils: ['lspci'],
  systemd: ['bootctl', 'journalctl', 'systemctl', 'systemd-detect-virt', 'systemd-run', 'timedatectl'],
  'util-linux': ['lsblk', 'lscpu', 'setpriv', 'umount'],
}
/** Packages for what those programs and systeminformation start, and for the scripts of gates. */
const FOR_OTHERS = [
  ...['gitMinimal', 'bash', 'coreutils', 'findutils', 'gnused', 'gnugrep', 'gawk'],
  ...['usbutils', 'smartmontools', 'which', 'net-tools'],
]
const coordinatorWith = (settings: string) =>
  describeModule(
    'coordinator',
    `{ services.muster.coordinator = { enable = true; names = [ "c.home" ]; } // { ${settings} }; }`,
  )

describe.skipIf(why !== undefined)(`the NixOS module of the agent ${why ?? ''}`, () => {
  test('writes a configuration with every key that the agent reads, and no more', () => {
    expect(agentWith(`trustPin = "${pin}"; tokenFile = "/var/lib/secrets/token";`).settings).toEqual({
      'muster/agent.json': {
        coordinator: 'c.home:7443',
        caPin: pin,
        trustPin: pin,
        tokenFile: '/run/credentials/muster-agent.service/token',
        stateDir: '/var/lib/muster-agent',
        socket: '/run/muster-agent/agent.sock',
        allow: ['apply', 'upgrade', 'rollback', 'reboot', 'restart', 'join', 'drain', 'snapshot'],
        activation: 'switch',
        sourceBuild: { enabled: true, leastMemoryBytes: 2 * 1024 ** 3 },
        generations: { keep: 10 },
        deadlines: { switchMs: 30 * 60_000, bootMs: 10 * 60_000 },
      },
    })
  })

  test('has the defaults that the agent has by itself', () => {
    const written = parseAgentConfig('agent.json', agentWith('').settings['muster/agent.json'])
    const bare = parseAgentConfig('x', { coordinator: 'c.home:7443', caPin: pin })
    // Only what may be ordered is wider where a person set up a NixOS machine for it.
    expect(written).toEqual({
      ...bare,
      allow: ['apply', 'upgrade', 'rollback', 'reboot', 'restart', 'join', 'drain', 'snapshot'],
    })
  })

  test('writes what the agent itself takes, with every verb that it knows', () => {
    const verbs = VERBS.map(verb => `"${verb}"`).join(' ')
    const { settings } = agentWith(`allow = [ ${verbs} ]; trustPin = "${pin}"; tokenFile = "/var/lib/t";`)
    expect(parseAgentConfig('agent.json', settings['muster/agent.json'])).toMatchObject({
      coordinator: 'c.home:7443',
      allow: [...VERBS],
      tokenFile: '/run/credentials/muster-agent.service/token',
      simulated: false,
    })
  })

  test('reaches settings without an option of their own, which never win over one that has', () => {
    const settings = (text: string) => agentWith(text).settings['muster/agent.json']
    expect(settings('extraSettings = { logLevel = "debug"; activation = "never"; };')).toMatchObject({
      logLevel: 'debug',
      activation: 'switch',
    })
    const unknown = settings('extraSettings.colour = "blue";')
    expect(() => parseAgentConfig('agent.json', unknown)).toThrow(/colour: unknown key/)
  })

  test('leaves out what is not set instead of writing null', () => {
    const settings = agentWith('').settings['muster/agent.json']
    expect(settings).not.toHaveProperty('trustPin')
    expect(settings).not.toHaveProperty('tokenFile')
  })

  test('keeps the agent running through every switch, and through one whose closure has no agent', () => {
    const unit = agentWith('').units['muster-agent.service']
    expect(unitSection(unit, 'Service').get('X-RestartIfChanged')).toEqual(['false'])
    expect(unitSection(unit, 'Service').get('X-StopIfChanged')).toEqual(['false'])
    expect(unitSection(unit, 'Unit').get('X-StopOnRemoval')).toEqual(['false'])
    expect(unitSection(unit, 'Unit').get('StartLimitIntervalSec')).toEqual(['0'])
    expect(unitSection(unit, 'Service').get('Restart')).toEqual(['always'])
  })

  test('signals the agent alone at a stop, and need not wait for a switch, which has a unit of its own', () => {
    const service = unitSection(agentWith('').units['muster-agent.service'], 'Service')
    expect(service.get('KillMode')).toEqual(['mixed'])
    expect(service.get('TimeoutStopSec')).toEqual(['2min'])
  })

  test('N40: changed settings change the unit, so that the agent sees them', () => {
    const before = agentWith('').units['muster-agent.service']
    expect(agentWith('activation = "never";').units['muster-agent.service']).not.toBe(before)
    expect(agentWith('').units['muster-agent.service']).toBe(before)
  })

  test('starts the agent with its configuration file and no other argument', () => {
    const start = unitSection(agentWith('').units['muster-agent.service'], 'Service').get('ExecStart')
    expect(start).toEqual([expect.stringMatching(/\/bin\/muster-agent --config \/etc\/muster\/agent\.json$/)])
  })

  test.each(['muster-agent.service', 'muster-dead-man.service'])(
    'N7, N10: %s finds every program that the agent, the way back and the gates start',
    unit => {
      const tools = toolsOf(agentWith(''), unit)
      const found = tools.flatMap(tool => (tool === undefined ? [] : (PROGRAMS[tool] ?? [])))
      expect(commandsOfAgent().filter(command => !found.includes(command))).toEqual([])
      expect(tools).toEqual(expect.arrayContaining(FOR_OTHERS))
      expect(toolsOf(agentWith('extraTools = [ e.nixpkgs.packages.openssh ];'), unit)).toContain('openssh')
    },
  )

  test('N18: state and configuration name one directory, which one option moves', () => {
    const { settings, units } = agentWith('stateDir = "/var/lib/elsewhere";')
    expect(settings['muster/agent.json']).toMatchObject({ stateDir: '/var/lib/elsewhere' })
    for (const unit of [units['muster-agent.service'], units['muster-dead-man.service']]) {
      const service = unitSection(unit, 'Service')
      expect(service.get('StateDirectory')).toEqual(['elsewhere'])
      expect(service.get('StateDirectoryMode')).toEqual(['0700'])
      expect(unit).not.toContain('/var/lib/muster-agent')
    }
  })

  test.each([
    ['fileSystems."/".fsType = "tmpfs";', true],
    ['fileSystems."/".fsType = "ext4"; fileSystems."/var".fsType = "tmpfs";', true],
    ['fileSystems."/".fsType = "tmpfs"; fileSystems."/var/library".fsType = "ext4";', true],
    ['fileSystems."/".fsType = "tmpfs"; fileSystems."/var/lib".fsType = "ext4";', false],
    ['fileSystems."/".fsType = "tmpfs"; fileSystems."/var/lib/muster-agent".options = [ "bind" ];', false],
    [
      'fileSystems."/".fsType = "tmpfs"; systemd.mounts = [ { where = "/var/lib/muster-agent"; what = "/keep"; } ];',
      false,
    ],
    ['fileSystems."/".fsType = "ext4"; fileSystems."/tmp".fsType = "tmpfs";', false],
    ['', false],
  ])('N18: a state directory that a reboot empties is refused: %s', (mounts, isRefused) => {
    expect(agentWith('', `{ ${mounts} }`).failedAssertions).toEqual(
      isRefused ? [expect.stringContaining('fileSystems."/var/lib/muster-agent"')] : [],
    )
    expect(agentWith('volatileState = true;', `{ ${mounts} }`).failedAssertions).toEqual([])
  })

  test.each(['/srv/muster', '/var/lib/', '/var/lib/a/b', '/var/lib/..'])(
    'refuses %s as its state directory',
    path => {
      expect(agentWith(`stateDir = "${path}";`).failedAssertions).toEqual([
        expect.stringContaining('directly below /var/lib'),
      ])
    },
  )

  test('arms the dead man again at every boot, before the agent and without a network', () => {
    const text = agentWith('').units['muster-dead-man.service']
    const unit = unitSection(text, 'Unit')
    expect(unit.get('Before')).toEqual(['muster-agent.service'])
    expect(unit.has('After')).toBe(false)
    expect(unit.has('Wants')).toBe(false)
    expect(unitSection(text, 'Install').get('WantedBy')).toEqual(['multi-user.target'])
    const service = unitSection(text, 'Service')
    expect(service.get('Type')).toEqual(['oneshot'])
    expect(service.get('RemainAfterExit')).toEqual(['true'])
    expect(service.get('ExecStart')).toEqual([
      expect.stringMatching(/\/bin\/muster-agent dead-man --config \/etc\/muster\/agent\.json$/),
    ])
  })

  test('no switch stops the dead man or starts it a second time', () => {
    const text = agentWith('').units['muster-dead-man.service']
    expect(unitSection(text, 'Service').get('X-RestartIfChanged')).toEqual(['false'])
    expect(unitSection(text, 'Service').get('X-StopIfChanged')).toEqual(['false'])
    expect(unitSection(text, 'Unit').get('X-StopOnRemoval')).toEqual(['false'])
  })

  test('a dead man that cannot run at once is tried again, for ever, and does not hold the agent up', () => {
    const text = agentWith('').units['muster-dead-man.service']
    expect(unitSection(text, 'Service').get('Restart')).toEqual(['on-failure'])
    expect(unitSection(text, 'Service').get('TimeoutStartSec')).toEqual(['2min'])
    expect(unitSection(text, 'Unit').get('StartLimitIntervalSec')).toEqual(['0'])
  })

  test.each([
    ['muster-dead-man.enable = lib.mkForce false', 'muster-dead-man is switched off'],
    ['muster-dead-man.wantedBy = lib.mkForce [ ]', 'muster-dead-man is switched off'],
    ['muster-agent.enable = lib.mkForce false', 'muster-agent is switched off'],
    ['muster-agent.restartIfChanged = lib.mkForce true', 'or a switch may restart it'],
  ])('refuses a configuration with %s', (setting, message) => {
    const { failedAssertions } = agentWith('', `({ lib, ... }: { systemd.services.${setting}; })`)
    expect(failedAssertions).toEqual([expect.stringContaining(message)])
  })

  test('takes durations as fleet.toml has them, and writes them in the unit that the agent reads', () => {
    const settings = (text: string) => agentWith(text).settings['muster/agent.json']
    expect(settings('switchTimeout = "90s"; bootTimeout = "2h"; generations.keep = 3;')).toMatchObject({
      deadlines: { switchMs: 90_000, bootMs: 7_200_000 },
      generations: { keep: 3 },
    })
    expect(settings('switchTimeout = "24h";')).toMatchObject({ deadlines: { switchMs: 86_400_000 } })
  })

  test('lets a setting of a group without an option stand beside those that have one', () => {
    const { settings } = agentWith('extraSettings = { deadlines.buildMs = 5000; restartBoundMs = 0; };')
    expect(parseAgentConfig('agent.json', settings['muster/agent.json'])).toMatchObject({
      deadlines: { buildMs: 5_000, switchMs: 30 * 60_000, bootMs: 10 * 60_000 },
      restartBoundMs: 0,
    })
  })

  test('where the boot loader can boot a system once, a boot that fails ends in another boot', () => {
    const grub = agentWith('')
    expect(grub.kernelParams).toEqual([])
    expect(grub.units).not.toHaveProperty('muster-emergency.service')
    const loader = '{ boot.loader.systemd-boot.enable = true; }'
    const { kernelParams, units } = agentWith('', loader)
    expect(kernelParams).toEqual(['panic=10', 'boot.panic_on_fail'])
    const text = units['muster-emergency.service']
    expect(unitSection(text, 'Unit').get('DefaultDependencies')).toEqual(['false'])
    expect(unitSection(text, 'Install').get('WantedBy')).toEqual(['emergency.target'])
    expect(unitSection(text, 'Service').get('ExecStart')).toEqual([
      expect.stringMatching(/\/bin\/bash -c '\S+\/bin\/sleep 10m && \{ \S+\/bin\/systemctl reboot \|\| /),
    ])
    expect(agentWith('panicReboot = true;').kernelParams).toEqual(kernelParams)
    expect(agentWith('panicReboot = false;', loader).kernelParams).toEqual([])
  })

  test('a trial boot that hangs before the dead man is ended by a unit that waits for nothing but the state', () => {
    expect(agentWith('').units).not.toHaveProperty('muster-trial-limit.service')
    const text = agentWith('panicReboot = true;').units['muster-trial-limit.service']
    expect(Object.fromEntries(unitSection(text, 'Unit'))).toMatchObject({
      DefaultDependencies: ['false'],
      RequiresMountsFor: ['/var/lib/muster-agent'],
      Conflicts: ['emergency.target'],
    })
    expect(unitSection(text, 'Unit').has('After')).toBe(false)
    expect(unitSection(text, 'Install').get('WantedBy')).toEqual(['sysinit.target'])
    const service = unitSection(text, 'Service')
    expect(service.get('ExecStart')).toEqual([
      expect.stringMatching(/\/bin\/muster-agent trial-limit --config \/etc\/muster\/agent\.json$/),
    ])
    expect(service.get('X-RestartIfChanged')).toEqual(['false'])
  })

  test('keeps the state where a file that is written in place takes no new block', () => {
    expect(agentWith('').tmpfiles).toEqual([
      'd /var/lib/muster-agent 0700 root root -',
      'h /var/lib/muster-agent - - - - +C',
      'h /var/lib/muster-agent/ops - - - - +C',
    ])
  })

  test.each(['25.05', '26.05'] as const)(
    'sets the watchdog by the name that NixOS %s has for it, and gives way to another value',
    release => {
      expect(agentWith('', '', release).watchdog).toBe('1m')
      expect(agentWith('watchdog = "30s";', '', release).watchdog).toBe('30s')
      expect(agentWith('watchdog = null;', '', release).watchdog).toBeNull()
      const own = release === '25.05' ? 'watchdog.runtimeTime' : 'settings.Manager.RuntimeWatchdogSec'
      expect(agentWith('', `{ systemd.${own} = "15s"; }`, release).watchdog).toBe('15s')
    },
  )

  test('bounds builds by a slice', () => {
    const { units } = agentWith('sourceBuilds = { memoryMax = "3G"; cpuWeight = 5; };')
    expect(Object.fromEntries(unitSection(units['muster-build.slice'], 'Slice'))).toEqual({
      MemoryMax: ['3G'],
      CPUWeight: ['5'],
      IOWeight: ['20'],
    })
    // Nix of root builds by itself then, below the agent; the daemon's builds would be outside of the slice.
    const service = unitSection(units['muster-agent.service'], 'Service')
    expect(service.get('Environment')?.filter(line => line.includes('NIX_REMOTE'))).toEqual([])
    expect(service.has('EnvironmentFile')).toBe(false)
  })

  test('wiping is off unless it is named', () => {
    expect(agentWith('').settings['muster/agent.json']?.allow).not.toContain('wipe')
    expect(agentWith('allow = [ "wipe" ];').settings['muster/agent.json']?.allow).toEqual(['wipe'])
    expect(() => agentWith('allow = [ "anything" ];')).toThrow(/allow/)
  })

  test('hands the token over without copying it: neither the store nor the unit holds it', () => {
    const token = join(folder, 'token')
    writeFileSync(token, 'very-secret-token', { mode: 0o600 })
    const { units, settings } = agentWith(`tokenFile = "${token}";`)
    const service = unitSection(units['muster-agent.service'], 'Service')
    expect(service.get('LoadCredential')).toEqual([`token:${token}`])
    // A file deleted after use must not stop the agent: systemd then takes this empty line.
    expect(service.get('SetCredential')).toEqual(['token:\\n'])
    expect(JSON.stringify({ units, settings })).not.toContain('very-secret')
    expect(JSON.stringify(settings)).not.toContain(token)
    const trigger = unitSection(units['muster-agent.service'], 'Unit').get('X-Restart-Triggers')?.[0] ?? ''
    expect(readFileSync(trigger, 'utf8')).not.toContain('very-secret')
  })

  test('refuses a token in the store, and a path literal, which would be copied there', () => {
    expect(agentWith('tokenFile = "/nix/store/abc-token";').failedAssertions).toEqual([
      expect.stringContaining('everybody on the machine can'),
    ])
    expect(() => agentWith(`tokenFile = ${join(folder, 'token')};`)).toThrow(/tokenFile/)
  })

  test.each([
    ['caPin', '"abc"'],
    ['caPin', `"${'AB'.repeat(32)}"`],
    ['trustPin', '"sha256:abc"'],
    ['coordinator', '"c.home"'],
    ['coordinator', '"https://c.home:7443"'],
    ['coordinator', '"fd00::1:7443"'],
    ['activation', '"sometimes"'],
    ['switchTimeout', '"30min"'],
    ['switchTimeout', '"0s"'],
    ['bootTimeout', '"25h"'],
    ['bootTimeout', '600'],
    ['watchdog', '"off"'],
    ['generations.keep', '1'],
  ])('refuses %s = %s by its type', (option, value) => {
    expect(() => agentWith(`${option} = ${value};`)).toThrow(new RegExp(option))
  })

  test('needs the coordinator and the pin', () => {
    expect(() => describeModule('agent', '{ services.muster.agent.enable = true; }')).toThrow(
      /services\.muster\.agent\.(caPin|coordinator)/,
    )
  })

  test('brings root’s command to every node, and the operators’ unless told not to', () => {
    expect(agentWith('').systemPackages).toEqual(['agent-x86_64-linux', 'cli-x86_64-linux'])
    expect(agentWith('commandPackage = null;').systemPackages).toEqual(['agent-x86_64-linux'])
  })

  test('does nothing unless it is enabled', () => {
    const { units, settings } = describeModule('agent', '')
    expect({ units, settings }).toEqual({ units: {}, settings: {} })
  })
})

describe.skipIf(why !== undefined)(`the NixOS module of the coordinator ${why ?? ''}`, () => {
  test('writes a configuration with every key that the coordinator reads, and no more', () => {
    expect(coordinatorWith('').settings).toEqual({
      'muster/coordinator.json': {
        stateDir: '/var/lib/muster-coordinator',
        enrolmentListen: '[::]:7443',
        fleetListen: '[::]:7444',
        names: ['c.home'],
        socket: '/run/muster-coordinator/coordinator.sock',
        logLevel: 'info',
        machineCertificateDays: 30,
        heartbeatSeconds: 10,
      },
    })
  })

  test('writes what the coordinator itself takes', () => {
    const { settings } = coordinatorWith(
      'fleetAddress = "c.home:9444"; logLevel = "debug"; extraSettings.retention.days = 30;',
    )
    expect(parseCoordinatorConfig(settings['muster/coordinator.json'], 'coordinator.json')).toMatchObject({
      names: ['c.home'],
      fleetAddress: 'c.home:9444',
      logLevel: 'debug',
      retention: { days: 30 },
    })
  })

  test('N41: systemctl stop sends SIGTERM and gives it the time to drain', () => {
    const service = unitSection(
      coordinatorWith('stopSeconds = 90;').units['muster-coordinator.service'],
      'Service',
    )
    expect(service.get('KillSignal')).toEqual(['SIGTERM'])
    expect(service.get('TimeoutStopSec')).toEqual(['90s'])
  })

  test('N42: runs as a user of its own, not a dynamic one, with its state in one directory', () => {
    const { units, users } = coordinatorWith('')
    const service = unitSection(units['muster-coordinator.service'], 'Service')
    expect(service.has('DynamicUser')).toBe(false)
    expect(service.get('User')).toEqual(['muster-coordinator'])
    expect(users['muster-coordinator']).toMatchObject({ isSystemUser: true })
    expect(service.get('StateDirectory')).toEqual(['muster-coordinator'])
    expect(service.get('StateDirectoryMode')).toEqual(['0700'])
  })

  test('is shut in', () => {
    const service = unitSection(coordinatorWith('').units['muster-coordinator.service'], 'Service')
    expect(Object.fromEntries(service)).toMatchObject({
      ProtectSystem: ['strict'],
      NoNewPrivileges: ['true'],
      PrivateTmp: ['true'],
      CapabilityBoundingSet: [''],
      RestrictAddressFamilies: ['AF_INET', 'AF_INET6', 'AF_UNIX'],
      SystemCallFilter: ['@system-service', '~@privileged', '~@resources'],
      RuntimeDirectoryMode: ['0700'],
    })
    // JavaScript engines write the code that they run.
    expect(service.has('MemoryDenyWriteExecute')).toBe(false)
  })

  test('opens the firewall only when asked, for the ports it really uses', () => {
    const ports = (settings: string) => coordinatorWith(settings).networking.firewall.allowedTCPPorts
    expect(ports('')).toEqual([])
    expect(ports('openFirewall = true; listen.fleet = "10.0.0.9:9000";')).toEqual([7443, 9000])
  })

  test('refuses one port for both listeners, ports it may not have, and no names', () => {
    expect(coordinatorWith('listen.fleet = "[::]:7443";').failedAssertions).toEqual([
      expect.stringContaining('both use port 7443'),
    ])
    expect(coordinatorWith('listen.fleet = "[::]:443";').failedAssertions).toEqual([
      expect.stringContaining('between 1024 and 65535'),
    ])
    expect(() => coordinatorWith('names = [ ];')).toThrow(/names/)
  })

  test('brings the command along unless told not to', () => {
    expect(coordinatorWith('').systemPackages).toEqual(['cli-x86_64-linux'])
    expect(coordinatorWith('commandPackage = null;').systemPackages).toEqual([])
  })

  test('lives beside the agent on one machine', () => {
    const both = describeModule(
      'agent',
      `e.flake.nixosModules.coordinator
       { services.muster.agent = { enable = true; coordinator = "c.home:7443"; caPin = "${pin}"; };
         services.muster.coordinator = { enable = true; names = [ "c.home" ]; }; }`,
    )
    expect(Object.keys(both.units).sort()).toEqual([
      'muster-agent.service',
      'muster-build.slice',
      'muster-coordinator.service',
      'muster-dead-man.service',
    ])
  })
})

describe.skipIf(why !== undefined)(`the reference of NixOS options ${why ?? ''}`, () => {
  test('holds every option with its type, default and meaning, and no other', () => {
    const rendered = evaluate(
      'import ../../nix/options-doc.nix { inherit (e) lib; }'.replace(
        '../../',
        `${join(import.meta.dirname, '../..')}/`,
      ),
    )
    const written = readFileSync(join(import.meta.dirname, '../../docs/reference/nixos-options.md'), 'utf8')
    expect(written).toBe(rendered)
  })

  test('names exactly the options that the modules declare', () => {
    const names = evaluate(`
      let options = (e.lib.evalModules { modules = [
        ${['agent.nix', 'coordinator.nix', 'host.nix', 'clusters'].map(name => join(import.meta.dirname, '../../nix/modules', name)).join(' ')}
        { config._module.check = false; } ]; }).options;
      in map (option: option.name) (builtins.filter (option: builtins.head option.loc != "_module" && option.visible && !option.internal)
        (e.lib.optionAttrSetToDocList options))`)
    const written = readFileSync(join(import.meta.dirname, '../../docs/reference/nixos-options.md'), 'utf8')
    // nixpkgs' own, of which a module of ours changes what comes of it.
    const headings = [
      'services.k3s.extraFlags',
      ...[...written.matchAll(/^## `(.+)`$/gm)].map(match => match[1]),
    ]
    expect(headings.sort()).toEqual(Array.isArray(names) ? names.sort() : names)
  })
})
