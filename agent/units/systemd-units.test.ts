import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ScriptedSystem } from '../operation/testing/scripted-system.ts'
import { properties, systemdUnits, words } from './systemd-units.ts'
import type { UnitSpec } from './units.ts'

/**
 * Takes a line apart as systemd-run and then systemd do (systemd.service(5), "COMMAND LINES"). What comes over the bus is
 * searched for variables when it is run, and never for the specifiers of a unit file.
 */
function asSystemd(line: string): string[] {
  const found: string[] = []
  for (const [, quoted = ''] of line.matchAll(/"((?:\\.|[^"\\])*)"(?: |$)/gs)) {
    found.push(quoted.replace(/\\(.)/gs, '$1').replaceAll('$$', '$'))
  }
  return found
}

describe('a command line in a unit', () => {
  it('comes out as the words that went in, whatever stands in them', () => {
    const word = fc.string({
      unit: fc.constantFrom('a', ' ', '"', '\\', '$', '{', '}', "'", ';', 'ü', '%', '-'),
    })
    fc.assert(
      fc.property(fc.array(word, { minLength: 1, maxLength: 4 }), command => {
        expect(asSystemd(words(command))).toEqual(command)
      }),
      { numRuns: 2_000 },
    )
  })

  it('has nothing left that systemd would expand', () => {
    expect(words(['/x', '$HOME', '%n', 'a b'])).toBe('"/x" "$$HOME" "%n" "a b"')
  })
})

it('properties are taken apart at their first sign', () => {
  expect([...properties('LoadState=loaded\nControlGroup=/a=b\n\nnonsense\n')]).toEqual([
    ['LoadState', 'loaded'],
    ['ControlGroup', '/a=b'],
  ])
})

describe('units of systemd', () => {
  const unit: UnitSpec = {
    name: 'muster-switch-op-1',
    description: 'x',
    command: ['/new/bin/switch-to-configuration', 'test'],
    before: ['/agent', 'mark', 'start', '/s'],
    after: ['/agent', 'mark', 'end', '/s'],
    env: { PATH: '/bin' },
  }
  function machine(command: string, answer: { exitCode?: number; stdout?: string[]; stderr?: string[] }) {
    const system = new ScriptedSystem()
    system.scripts.set(command, () => answer)
    return { system, units: systemdUnits(system) }
  }

  it('N1, T21, A1: are started to outlive whoever asked, with output that nobody can close', async () => {
    const { system, units } = machine('systemd-run', {})
    expect(await units.start(unit)).toEqual({ kind: 'started' })
    const [line = ''] = system.commands
    for (const option of ['--no-block', '--service-type=exec', '--property=StandardError=journal']) {
      expect(line).toContain(option)
    }
    expect(line).toContain('--unit=muster-switch-op-1 --slice=system.slice ')
    expect(line).toContain('--property=ExecStopPost="/agent" "mark" "end" "/s"')
    expect(line).toContain('--property=KillMode=control-group')
    expect(line).not.toMatch(/--pipe|--wait|--scope/)
    expect(line.endsWith('-- /new/bin/switch-to-configuration test')).toBe(true)
  })

  const MADE = [
    'ExecStart={ path=/nix/store/a/bin/muster-agent ; argv[]=/nix/store/a/bin/muster-agent --config x ; ignore_errors=no ; pid=1 }',
    'FragmentPath=/etc/systemd/system/muster-agent.service',
    'DropInPaths=/run/systemd/system/muster-agent.service.d/a.conf /etc/systemd/system/service.d/b.conf',
  ]

  it.each([
    [
      'is told with its program and all its files',
      { stdout: [`MainPID=${process.pid}`, ...MADE] },
      {
        kind: 'unit',
        program: '/nix/store/a/bin/muster-agent',
        files: [
          '/etc/systemd/system/muster-agent.service',
          '/run/systemd/system/muster-agent.service.d/a.conf',
          '/etc/systemd/system/service.d/b.conf',
        ],
      },
    ],
    ['is not that of another process', { stdout: ['MainPID=1', ...MADE] }, { kind: 'not-ours' }],
    [
      'is not known where it names no program',
      { stdout: [`MainPID=${process.pid}`, 'ExecStart='] },
      { kind: 'unknown', reason: 'muster-agent.service names no program' },
    ],
    [
      'is not known where systemd does not answer',
      { exitCode: 1, stderr: ['Failed to connect to bus'] },
      { kind: 'unknown', reason: 'systemctl show: Failed to connect to bus' },
    ],
  ])('T36: the agent’s own %s', async (_, answer, expected) => {
    expect(await machine('systemctl', answer).units.agentUnit()).toEqual(expected)
  })

  it('are started again where something killed them, or where they say so themselves', async () => {
    const { system, units } = machine('systemd-run', {})
    await units.start({ ...unit, restarts: { alsoOnExitCode: 75 } })
    expect(system.commands[0]).toContain(
      '--property=Restart=on-abnormal --property=RestartSec=2s --property=RestartForceExitStatus=75 ',
    )
    await units.start(unit)
    expect(system.commands[1]).not.toContain('Restart')
  })

  it('are stopped for a boot, also past a lock against it, or not waited for', async () => {
    const { system, units } = machine('systemctl', {})
    await units.reboot()
    await units.reboot('past-locks')
    await units.reboot('force')
    expect(system.commands.map(line => line.replace(/^.*--no-pager /, ''))).toEqual([
      'reboot --no-block',
      'reboot --no-block --check-inhibitors=no',
      'reboot --force',
    ])
  })

  it('with a name that is taken say so, and are no failure', async () => {
    const stderr = [
      'Failed to start transient service unit: Unit x.service was already loaded or has a fragment file.',
    ]
    expect(await machine('systemd-run', { exitCode: 1, stderr }).units.start(unit)).toEqual({ kind: 'taken' })
    const other = await machine('systemd-run', {
      exitCode: 1,
      stderr: ['Failed to connect to bus'],
    }).units.start(unit)
    expect(other).toEqual({ kind: 'failed', reason: 'systemd-run: Failed to connect to bus' })
  })

  it.each([
    [['LoadState=not-found', 'ActiveState=inactive'], 'gone'],
    [['LoadState=loaded', 'ActiveState=failed'], 'gone'],
    [['LoadState=loaded', 'ActiveState=inactive', 'Job='], 'gone'],
    [['LoadState=loaded', 'ActiveState=inactive', 'Job=4711'], 'running'],
    [['LoadState=loaded', 'ActiveState=activating'], 'running'],
    [['LoadState=loaded', 'ActiveState=deactivating'], 'running'],
    [['LoadState=loaded', 'ActiveState=active'], 'running'],
  ])('that show %s are %s', async (stdout, kind) => {
    expect((await machine('systemctl', { stdout }).units.state('x')).kind).toBe(kind)
  })

  it.each([
    ['failed', 'loaded'],
    // Forgotten together with its group.
    ['inactive', 'not-found'],
  ])(
    'N6: that systemd gave up (%s, %s) are gone only when nothing is left in their group',
    async (active, load) => {
      const stdout = [`LoadState=${load}`, `ActiveState=${active}`, 'Job=']
      const { system, units } = machine('systemctl', { stdout })
      system.files.set('/sys/fs/cgroup/system.slice/x.service/cgroup.procs', '4711\n')
      system.files.set('/proc/4711/comm', 'cat\n')
      expect(await units.state('x')).toEqual({ kind: 'running' })
      expect(await units.stop('x', 10)).toEqual({
        kind: 'alive',
        reason: 'x.service is still there: process 4711 (cat) does not end',
      })
      system.files.set('/sys/fs/cgroup/system.slice/x.service/cgroup.procs', '')
      expect(await units.state('x')).toEqual({ kind: 'gone' })
      expect(await units.stop('x', 10)).toEqual({ kind: 'gone' })
    },
  )

  it('T34: that cannot be asked are unknown, never gone and never none', async () => {
    const { units } = machine('systemctl', { exitCode: 1, stderr: ['Failed to connect to bus'] })
    expect(await units.state('x')).toMatchObject({ kind: 'unknown' })
    expect(await units.failed()).toBeUndefined()
    expect(await units.stop('x', 10)).toMatchObject({ kind: 'alive' })
  })

  it('that failed are named without the mark in front of them', async () => {
    const stdout = ['● a.service loaded failed failed A', 'b@1.mount loaded failed failed B', '']
    expect(await machine('systemctl', { stdout }).units.failed()).toEqual(new Set(['a.service', 'b@1.mount']))
  })

  it('that die and are started again and again have failed, and those that end well and run anew have not', async () => {
    const list = [
      '● a.service loaded failed failed A',
      'dies.service loaded activating auto-restart Dies',
      'polls.service loaded activating auto-restart Polls',
    ]
    const show = ['ExecMainStatus=1', 'Id=dies.service', '', 'ExecMainStatus=0', 'Id=polls.service']
    const { system, units } = machine('systemctl', {})
    system.scripts.set('systemctl', args => ({ stdout: args.includes('list-units') ? list : show }))
    expect(await units.failed()).toEqual(new Set(['a.service', 'dies.service']))
    expect(system.commands[0]).toContain('list-units --state=failed,auto-restart --all')
    expect(system.commands[1]).toContain('show --property=Id,ExecMainStatus -- dies.service polls.service')
  })

  it('that were started anew again and again, and lately, are unsteady, also while they run', async () => {
    const block = (name: string, restarts: number, startedMs: number) => [
      ...[`NRestarts=${restarts}`, `Id=${name}.service`],
      ...[`ExecMainStartTimestampMonotonic=${startedMs * 1_000}`, ''],
    ]
    const { system, units } = machine('systemctl', {
      stdout: [...block('dies', 90, 999_000), ...block('died', 90, 1_000), ...block('slow', 1, 999_000)],
    })
    const read = system.readFile.bind(system)
    system.readFile = async (path, most) =>
      path === '/proc/uptime'
        ? { kind: 'file', bytes: Buffer.from('1000.00 0.00'), truncated: false }
        : read(path, most)
    expect(await units.unsteady()).toEqual(new Set(['dies.service']))
    expect(await machine('systemctl', { exitCode: 1 }).units.unsteady()).toBeUndefined()
  })

  it('that wait to be started again and cannot be asked are unknown, never none', async () => {
    const { system, units } = machine('systemctl', {})
    system.scripts.set('systemctl', args =>
      args.includes('list-units')
        ? { stdout: ['dies.service loaded activating auto-restart Dies'] }
        : { exitCode: 1 },
    )
    expect(await units.failed()).toBeUndefined()
  })

  it('say what they printed, line by line and byte by byte, with who said it', async () => {
    const entry = (cursor: string, message: unknown) =>
      JSON.stringify({ __CURSOR: cursor, MESSAGE: message, SYSLOG_IDENTIFIER: 'nixos' })
    const stdout = [entry('c1', 'switching\nto x'), entry('c2', [...Buffer.from('ü\u0007')]), '{"cut o']
    const { system, units } = machine('journalctl', { stdout })
    expect(await units.output('x', 'c0', false)).toEqual({
      cursor: 'c2',
      lines: ['switching', 'to x', 'ü\u0007'].map(text => ({ text, identifier: 'nixos' })),
    })
    expect(system.commands[0]).toContain('--after-cursor=c0 _SYSTEMD_UNIT=x.service')
  })
})
