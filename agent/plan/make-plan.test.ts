import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { PlanMode } from '../../shared/gen/muster/v1/plan_pb.ts'
import { describePlan } from './describe-plan.ts'
import { makePlan, type Plan } from './make-plan.ts'
import { planMessage } from './plan-message.ts'
import { PlanMachine, storePath } from './testing/plan-machine.ts'

const EXPECTED = { host: 'olaf', system: 'x86_64-linux' }
const UNITS = 'etc/systemd/system'

async function plan(
  machine: PlanMachine,
  target: string,
  expected: { host?: string; system: string } = EXPECTED,
) {
  return await makePlan(machine.system, { root: '/', storeDir: '/nix/store', target, expected })
}

const classes = ({ problems }: Plan) => problems.map(({ class: kind }) => kind)
const kinds = ({ warnings }: Plan) => warnings.map(({ kind }) => kind)

describe('a plan', () => {
  test('of what runs already says that nothing is to be done', async () => {
    await using machine = await PlanMachine.make()
    const path = await machine.toplevel('a')
    await machine.runs(path)
    const same = await plan(machine, path)
    expect(same).toMatchObject({ unchanged: true, problems: [], warnings: [], agentChanges: false })
    expect(describePlan(same)).toEqual([`${path} runs already and is the boot default: nothing to do`])
  })

  test('is refused where the firmware boots something else, whatever is promoted', async () => {
    await using machine = await PlanMachine.make()
    const old = await machine.toplevel('a')
    await machine.runs(old)
    const target = await machine.toplevel('b', { 'kernel-params': 'quiet\n' })
    const variable = '/sys/firmware/efi/efivars/LoaderEntryDefault-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f'
    const attributes = '\u0007\0\0\0'
    const utf16 = (text: string) => Buffer.from(`${text}\0`, 'utf16le').toString('latin1')
    await machine.files({ [variable]: `${attributes}${utf16('nixos-generation-7.conf')}` })
    const found = await plan(machine, target)
    expect(classes(found)).toEqual(['forced-default'])
    expect(found.problems[0]?.reason).toContain('nixos-generation-7.conf')
    // Emptied and taken away are the same: what is installed counts.
    await machine.files({ [variable]: `${attributes}${utf16('')}` })
    expect(classes(await plan(machine, target))).toEqual([])
  })

  test('tells what a switch would do, and fits the wire', async () => {
    await using machine = await PlanMachine.make()
    const before = { [`${UNITS}/a.service`]: '[Service]\nExecStart=/1\n', [`${UNITS}/b.service`]: '[Unit]\n' }
    const old = await machine.toplevel('a', before)
    await machine.runs(old)
    await machine.states(
      'systemd-logind.service',
      'multi-user.target',
      'a.service',
      'b.service',
      'c.service failed',
    )
    const target = await machine.toplevel('b', {
      [`${UNITS}/a.service`]: '[Service]\nExecStart=/2\n',
      [`${UNITS}/new.service`]: '[Unit]\n',
      [`${UNITS}/multi-user.target.wants/new.service`]: '-> ../new.service',
      [`${UNITS}/b.service`]: '-> /nix/store/masked',
      'etc/fstab': '/dev/vda / ext4 noatime 0 1\n',
      kernel: `-> ${storePath('linux-2')}/bzImage`,
    })
    await machine.files({ '/nix/store/masked': '-> /dev/null' })
    const found = await plan(machine, target)
    expect(describePlan(found)).toEqual([
      `target ${target}`,
      `current ${old}`,
      'takes effect as a whole only after a reboot:',
      `  kernel: ${storePath('linux')}/bzImage -> ${storePath('linux-2')}/bzImage`,
      'stops: b.service (masked)',
      'restarts: a.service',
      'reloads: -.mount',
      'starts: new.service (new)',
      'closure: 2.0 KiB in 2 paths, of them 1000 bytes in 1 paths not in the running system',
      expect.stringMatching(/^free on \/nix\/store: [\d.]+ [KMGT]iB$/),
      'note (failed-before): failed already: c.service',
    ])
    expect(planMessage(found, PlanMode.SWITCH, [])).toMatchObject({
      from: old,
      to: target,
      stops: ['b.service'],
      restarts: ['a.service'],
      reloads: ['-.mount'],
      starts: ['new.service'],
      closureBytes: 1000n,
      rebootReasons: [{ kind: 'kernel', key: '', required: false }],
      leftOut: 0,
    })
  })

  test('tells when only a reboot reaches the target, and why', async () => {
    await using machine = await PlanMachine.make()
    await machine.runs(await machine.toplevel('a', { 'switch-inhibitors': '{"dbus-implementation":"dbus"}' }))
    const target = await machine.toplevel('b', {
      'switch-inhibitors': '{"dbus-implementation":"broker"}',
      'init-interface-version': 'systemd 3\n',
    })
    const found = await plan(machine, target)
    expect(found.reboot.required).toBe(true)
    expect(found.problems).toEqual([])
    expect(describePlan(found)).toEqual(
      expect.arrayContaining([
        'can only be reached by a reboot:',
        '  init-interface: systemd 2 -> systemd 3 (a switch refuses this)',
        '  inhibitor dbus-implementation: dbus -> broker (a switch refuses this)',
      ]),
    )
    expect(kinds(found)).toEqual(['dbus'])
  })

  test('cuts long lists on the wire and says how much', async () => {
    await using machine = await PlanMachine.make()
    const path = await machine.toplevel('a')
    await machine.runs(path)
    const found = await plan(machine, path)
    const changes = Array.from({ length: 600 }, (_, index) => ({
      unit: `u${index}.service`,
      action: 'restart' as const,
      reason: 'changed' as const,
    }))
    const message = planMessage({ ...found, units: { changes, unknown: [] } }, PlanMode.SWITCH, [])
    expect(message).toMatchObject({ leftOut: 100, restarts: { length: 500 } })
  })
})

describe('a plan as it travels', () => {
  test('says first what would refuse the change, and what the boot partition has and needs', async () => {
    await using machine = await PlanMachine.make()
    const path = await machine.toplevel('a')
    await machine.runs(path)
    const found = await plan(machine, path)
    const boot = {
      place: { mountPoint: '/boot', kernels: [], entries: undefined },
      free: { kind: 'bytes', bytes: 5 },
      need: { kind: 'bytes', bytes: 7 },
    } as never
    const warnings = [{ kind: 'dbus', text: 'the bus' }] as const
    const refusals = [{ class: 'no-agent', reason: 'it has none' }]
    const message = planMessage(
      { ...found, warnings, space: { ...found.space, boot } },
      PlanMode.SWITCH,
      refusals,
    )
    expect(message.warnings).toEqual([
      'would be refused (no-agent): it has none',
      'the bus',
      'boot partition /boot: 5 bytes free, 7 bytes needed',
    ])
  })
})

describe('a plan of a node', () => {
  const FACTS = {
    cluster: 'home',
    distribution: 'components',
    role: 'worker',
    life: 'with-system',
    apiPort: 6443,
    servers: { n1: null },
    certificateNames: [],
    units: ['kubelet.service'],
  }
  const node = (version: string) => ({
    [`${UNITS}/kubelet.service`]: `[Service]\nExecStart=/kubernetes-${version}\nX-RestartIfChanged=false\n`,
    'etc/muster/cluster.json': JSON.stringify({ ...FACTS, version, programs: [`/kubernetes-${version}`] }),
  })

  test('says that Kubernetes restarts though the switch leaves it running, and does not where it stays', async () => {
    await using machine = await PlanMachine.make()
    await machine.runs(await machine.toplevel('a', node('1.34.3')))
    await machine.states('systemd-logind.service', 'kubelet.service')
    const next = await plan(machine, await machine.toplevel('b', node('1.35.4')))
    expect(planMessage(next, PlanMode.SWITCH, [])).toMatchObject({
      restarts: [],
      untouched: ['kubelet.service'],
      kubernetesRestarts: true,
    })
    const other = { ...node('1.34.3'), [`${UNITS}/new.service`]: '[Unit]\n' }
    const same = await plan(machine, await machine.toplevel('c', other))
    expect(planMessage(same, PlanMode.SWITCH, [])).toMatchObject({ kubernetesRestarts: false })
  })
})

describe('A5: a plan refuses', () => {
  test.each<[string, Record<string, string>, string]>([
    ['S1: a toplevel without activate', { activate: '' }, 'incomplete'],
    [
      'one without the target that every switch restarts',
      { [`${UNITS}/sysinit-reactivation.target`]: '' },
      'incomplete',
    ],
    [
      'one that cannot be switched to (system.switch.enable)',
      { 'bin/switch-to-configuration': '' },
      'incomplete',
    ],
    ['one whose systemd is not in the store', { systemd: '-> /nix/store/nowhere' }, 'incomplete'],
    ['one without agent', { [`${UNITS}/muster-agent.service`]: '' }, 'no-agent'],
    ['one with a masked agent', { [`${UNITS}/muster-agent.service`]: '-> /dev/null' }, 'no-agent'],
    ['one without dead man', { [`${UNITS}/muster-dead-man.service`]: '' }, 'no-dead-man'],
    [
      'T17: one whose agent is not in the store',
      { [`${UNITS}/muster-agent.service`]: '[Service]\nExecStart=/nix/store/nowhere/bin/agent\n' },
      'program-missing',
    ],
    ['another architecture', { system: 'aarch64-linux\n' }, 'system'],
    ['another host', { 'etc/hostname': 'nas\n' }, 'host-name'],
    ['an inhibitor file that is no JSON', { 'switch-inhibitors': 'no json' }, 'unreadable'],
    ['a part that cannot be read', { 'init-interface-version': 'x'.repeat(70_000) }, 'unreadable'],
  ])('%s', async (_, change, problem) => {
    await using machine = await PlanMachine.make()
    await machine.runs(await machine.toplevel('a'))
    const found = await plan(machine, await machine.toplevel('b', change))
    expect(classes(found)).toEqual([problem])
    expect(describePlan(found).join('\n')).toContain(`refused (${problem}): `)
  })

  test('when nobody knows what runs', async () => {
    await using machine = await PlanMachine.make()
    const found = await plan(machine, await machine.toplevel('b'))
    expect(classes(found)).toEqual(['no-current-system'])
    expect(found.reboot.required).toBe(true)
  })

  test('when logind does not run, or systemd cannot be asked', async () => {
    await using machine = await PlanMachine.make()
    await machine.runs(await machine.toplevel('a'))
    const target = await machine.toplevel('b')
    await machine.states('systemd-logind.service failed')
    expect(classes(await plan(machine, target))).toEqual(['logind'])
    await rm(join(machine.root, 'bin/systemctl'))
    const found = await plan(machine, target)
    expect(classes(found)).toEqual(['unreadable'])
    expect(found.units.unknown).toEqual(['all units'])
  })

  test('nothing for a group, or for a host whose name comes from elsewhere', async () => {
    await using machine = await PlanMachine.make()
    await machine.runs(await machine.toplevel('a'))
    const other = await machine.toplevel('b', { 'etc/hostname': 'nas\n' })
    expect(classes(await plan(machine, other, { system: 'x86_64-linux' }))).toEqual([])
    const found = await plan(machine, await machine.toplevel('c', { 'etc/hostname': '' }))
    expect([classes(found), kinds(found)]).toEqual([[], ['no-host-name']])
  })
})

describe('a plan warns', () => {
  const warned = async (change: Record<string, string>, ...states: string[]) => {
    await using machine = await PlanMachine.make()
    const dbus = { [`${UNITS}/dbus.service`]: '[Service]\nExecStart=/1\n' }
    await machine.runs(await machine.toplevel('a', dbus))
    await machine.states('systemd-logind.service', 'muster-agent.service', 'dbus.service', ...states)
    return kinds(await plan(machine, await machine.toplevel('b', { ...dbus, ...change })))
  }

  test('T24: of a change to D-Bus', async () => {
    expect(await warned({ [`${UNITS}/dbus.service`]: '[Service]\nExecStart=/2\n' })).toEqual(['dbus'])
    expect(await warned({ [`${UNITS}/dbus-broker.service`]: '[Service]\nExecStart=/2\n' })).toEqual(['dbus'])
    expect(await warned({})).toEqual([])
  })

  test('N40: of another unit of the agent, and of one that a switch would stop', async () => {
    const agent = `${storePath('muster-agent')}/bin/agent`
    const unit = `[Service]\nExecStart=${agent} --config y\n`
    expect(await warned({ [`${UNITS}/muster-agent.service`]: `${unit}X-RestartIfChanged=false\n` })).toEqual([
      'agent-changes',
    ])
    expect(await warned({ [`${UNITS}/muster-agent.service`]: unit })).toEqual([
      'agent-stops',
      'agent-changes',
    ])
  })

  test('of another systemd, and of a generation that waits for the next boot', async () => {
    await using machine = await PlanMachine.make()
    await machine.runs(await machine.toplevel('a'))
    await machine.files({ 'nix/var/nix/profiles/system-1-link': `-> ${await machine.toplevel('c')}` })
    await machine.files({ [`${storePath('systemd-2')}/lib/systemd/systemd`]: 'x' })
    const target = await machine.toplevel('b', { systemd: `-> ${storePath('systemd-2')}` })
    expect(kinds(await plan(machine, target))).toEqual(['systemd', 'boot-pending'])
  })

  test('of a target that the next boot starts already, while another system runs', async () => {
    await using machine = await PlanMachine.make()
    await machine.runs(await machine.toplevel('a'))
    const target = await machine.toplevel('b')
    await machine.files({ 'nix/var/nix/profiles/system-1-link': `-> ${target}` })
    expect(kinds(await plan(machine, target))).toEqual(['boot-pending'])
    // Booted, and left by a switch by hand: it is known to boot.
    await machine.files({ 'run/booted-system': `-> ${target}` })
    expect(kinds(await plan(machine, target))).toEqual([])
  })
})

test('a unit folder that cannot be read is unknown, never a system without units', async () => {
  await using machine = await PlanMachine.make()
  await machine.runs(await machine.toplevel('a'))
  const target = await machine.toplevel('b')
  await machine.files({ [`${target}/${UNITS}`]: '-> system' }) // a link to itself
  const found = await plan(machine, target)
  expect(found.units).toEqual({ changes: [], unknown: ['all units'] })
  expect(new Set(classes(found))).toEqual(new Set(['unreadable']))
})

describe('a plan refuses a system whose agent would not find the state of this one', () => {
  const STATE = '/var/lib/muster-agent'
  const config = (fields: object) => ({
    'etc/muster/agent.json': JSON.stringify({ coordinator: 'c.home:7443', ...fields }),
    ...Object.fromEntries(
      ['agent', 'dead-man'].map(name => [
        `${UNITS}/muster-${name}.service`,
        `[Service]\nExecStart=${storePath('muster-agent')}/bin/${name} --config /etc/muster/agent.json\nX-RestartIfChanged=false\n`,
      ]),
    ),
  })
  const fstab = (...lines: readonly string[]) => ({
    'etc/fstab': ['/dev/vda / ext4 defaults 0 1', ...lines].map(line => `${line}\n`).join(''),
  })
  const VAR = '/dev/disk/by-uuid/1-2 /var ext4 defaults 0 2'

  async function judge(
    before: Record<string, string>,
    after: Record<string, string>,
    mounted: readonly string[] = [],
  ): Promise<Plan> {
    await using machine = await PlanMachine.make()
    await machine.runs(await machine.toplevel('a', before))
    await machine.files({
      '/proc/mounts': ['/', ...mounted].map(point => `/dev/x ${point} ext4 rw 0 0\n`).join(''),
      '/dev/vdb': '',
      '/dev/vdc': '',
      '/dev/disk/by-uuid/1-2': '-> ../../vdb',
      '/dev/disk/by-label/var': '-> ../../vdb',
      '/dev/disk/by-label/other': '-> ../../vdc',
    })
    const target = await machine.toplevel('b', after)
    return await makePlan(machine.system, {
      root: '/',
      storeDir: '/nix/store',
      target,
      expected: EXPECTED,
      stateDir: STATE,
    })
  }

  test.each<[string, Record<string, string>, Record<string, string>, readonly string[], string]>([
    [
      'in another folder',
      config({}),
      config({ stateDir: '/var/lib/muster' }),
      [],
      "looks for the agent's state in /var/lib/muster",
    ],
    [
      'below a mount that it has not any more',
      fstab(VAR),
      fstab(),
      ['/var'],
      "mounts nothing on /var, where the agent's state in /var/lib/muster-agent lies",
    ],
    [
      'below a mount that is new and hides it',
      fstab(),
      fstab(VAR),
      [],
      "mounts /dev/disk/by-uuid/1-2 on /var, over the agent's state",
    ],
    [
      'below a bind mount that is new, as for a root that is empty at each boot',
      fstab(),
      fstab('/persist/var/lib/muster-agent /var/lib/muster-agent none bind 0 0'),
      [],
      'mounts /persist/var/lib/muster-agent on /var/lib/muster-agent, over',
    ],
    [
      'on another disk',
      fstab(VAR),
      fstab('/dev/disk/by-label/other /var ext4 defaults 0 2'),
      ['/var'],
      'in the place of /dev/disk/by-uuid/1-2',
    ],
    [
      'on another disk as the root',
      fstab(),
      { 'etc/fstab': '/dev/vdc / ext4 defaults 0 1\n' },
      [],
      'mounts /dev/vdc on / in the place of /dev/vda',
    ],
    [
      'in another subvolume',
      fstab('/dev/vdb /var btrfs subvol=@var 0 0'),
      fstab('/dev/vdb /var btrfs subvol=@new 0 0'),
      ['/var'],
      '(subvolume @new)',
    ],
    [
      'behind a bind mount of what is mounted from elsewhere',
      fstab('/dev/vdb /persist ext4 defaults 0 0', `/persist${STATE} ${STATE} none bind 0 0`),
      fstab('/dev/vdc /persist ext4 defaults 0 0', `/persist${STATE} ${STATE} none bind 0 0`),
      ['/persist', STATE],
      'mounts /dev/vdc on /persist in the place of /dev/vdb',
    ],
    [
      'below a mount by a unit of its own',
      {},
      { [`${UNITS}/var.mount`]: '[Mount]\nWhat=/dev/vdb\nWhere=/var\n' },
      [],
      'mounts /dev/vdb on /var, over',
    ],
  ])('%s', async (_, before, after, mounted, reason) => {
    const found = await judge(before, after, mounted)
    expect(classes(found)).toEqual(['state-moves'])
    expect(found.problems[0]?.reason).toContain(reason)
  })

  test.each<[string, Record<string, string>, Record<string, string>, readonly string[]]>([
    ['the same place by its name', config({}), config({ stateDir: `${STATE}/` }), []],
    ['one whose configuration names no folder', {}, config({}), []],
    ['the same disk by another name', fstab(VAR), fstab('LABEL=var /var ext4 defaults 0 2'), ['/var']],
    ['a mount that a person has made there already', fstab(), fstab(VAR), ['/var']],
    ['a mount gone that was never there', fstab(VAR), fstab(), []],
    [
      'mounts elsewhere',
      fstab('/dev/vdb /home ext4 defaults 0 2'),
      fstab('/dev/vdc /srv ext4 defaults 0 2'),
      ['/home'],
    ],
    ['one that nothing mounts by itself', fstab(), fstab('/dev/vdb /var ext4 noauto 0 2'), []],
  ])('and not for %s', async (_, before, after, mounted) => {
    expect(classes(await judge(before, after, mounted))).toEqual([])
  })
})
