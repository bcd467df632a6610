import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { compareUnits } from './compare-units.ts'
import { unitFolder, unitStates } from './testing/made-up-units.ts'

type Files = Readonly<Record<string, string>>

/** What happens to each unit, in words: "restart a.service changed", with the unit that brings it about. */
function compare(before: Files, after: Files, ...states: readonly string[]): string[] {
  const { changes, unknown } = compareUnits(unitFolder(before), unitFolder(after), unitStates(...states))
  return [
    ...changes.map(({ unit, action, reason, through }) =>
      [action, unit, reason, ...(through === undefined ? [] : [`(${through})`])].join(' '),
    ),
    ...unknown.map(unit => `unknown ${unit}`),
  ]
}

const service = (start: string, more = '') => `[Unit]\n[Service]\nExecStart=${start}\n${more}\n`
const TARGET = { 'multi-user.target': '[Unit]\n', 'multi-user.target.wants/a.service': '' }

describe('of a running unit whose file changes', () => {
  test.each<[string, string, string, string[]]>([
    ['nothing is said when it is the same', service('/1'), service('/1'), []],
    ['it stops and starts', service('/1'), service('/2'), ['restart a.service changed']],
    [
      'it restarts with X-StopIfChanged=false',
      service('/1'),
      service('/2', 'X-StopIfChanged=false'),
      ['restart a.service changed'],
    ],
    [
      'it reloads with X-ReloadIfChanged',
      service('/1'),
      service('/2', 'X-ReloadIfChanged=true'),
      ['reload a.service changed'],
    ],
    [
      'it reloads when only its reload triggers differ',
      '[Unit]\nX-Reload-Triggers=1\n',
      '[Unit]\nX-Reload-Triggers=2\n',
      ['reload a.service changed'],
    ],
    [
      'it is left running with X-RestartIfChanged=false',
      service('/1'),
      service('/2', 'X-RestartIfChanged=false'),
      ['keep a.service changed'],
    ],
    [
      'it is left running with X-OnlyManualStart',
      service('/1'),
      `[Unit]\nX-OnlyManualStart=yes\n[Service]\nExecStart=/2\n`,
      ['keep a.service changed'],
    ],
    ['it stops when it is masked', service('/1'), 'masked', ['stop a.service masked']],
    ['it is not known when it cannot be read', service('/1'), 'unreadable', ['unknown a.service']],
  ])('%s', (_, before, after, expected) => {
    expect(compare({ 'a.service': before }, { 'a.service': after }, 'a.service')).toEqual(expected)
  })

  test('the new file decides about a restart, the old file about a removal', () => {
    const kept = service('/1', 'X-RestartIfChanged=false')
    expect(compare({ 'a.service': kept }, { 'a.service': service('/2') }, 'a.service')).toEqual([
      'restart a.service changed',
    ])
    expect(compare({ 'a.service': service('/1') }, {}, 'a.service')).toEqual(['stop a.service removed'])
    const staying = '[Unit]\nX-StopOnRemoval=false\n[Service]\nExecStart=/1\n'
    expect(compare({ 'a.service': staying }, {}, 'a.service')).toEqual(['keep a.service removed'])
  })

  test('slices and paths take it in place, timers restart, sockets go on', () => {
    const names = ['a.slice', 'a.path', 'a.timer', 'a.socket']
    const files = (value: string) => Object.fromEntries(names.map(name => [name, `[Unit]\nAfter=${value}\n`]))
    expect(compare(files('1'), files('2'), ...names)).toEqual([
      'keep a.path applied-in-place',
      'keep a.slice applied-in-place',
      'keep a.socket changed',
      'restart a.timer changed',
    ])
  })

  test('mounts restart or are remounted, and / and /nix never go', () => {
    const files = (what: string, options: string) => ({
      '-.mount': `[Mount]\nWhat=${what}\n`,
      'nix.mount': `[Mount]\nWhat=${what}\n`,
      'srv.mount': `[Mount]\nWhat=${what}\n`,
      'var.mount': `[Mount]\nOptions=${options}\n`,
    })
    expect(
      compare(files('1', '1'), files('2', '2'), '-.mount', 'nix.mount', 'srv.mount', 'var.mount'),
    ).toEqual([
      'reload -.mount changed',
      'reload nix.mount changed',
      'restart srv.mount changed',
      'reload var.mount changed',
    ])
  })

  test('drop-ins count as the file', () => {
    const before = { 'a.service': service('/1'), 'a.service.d/overrides.conf': '[Service]\nUser=a\n' }
    const after = { 'a.service': service('/1'), 'a.service.d/overrides.conf': '[Service]\nUser=b\n' }
    expect(compare(before, after, 'a.service')).toEqual(['restart a.service changed'])
    expect(compare(before, { 'a.service': service('/1') }, 'a.service')).toEqual([
      'restart a.service changed',
    ])
  })

  test('units that do not run, that systemd made, or that were started by hand are not looked at', () => {
    const [before, after] = [{ 'a.service': service('/1') }, { 'a.service': service('/2') }]
    for (const state of ['inactive', 'failed', 'deactivating', 'active transient']) {
      expect(compare(before, after, `a.service ${state}`)).toEqual([])
    }
    expect(compare(before, after)).toEqual([])
    expect(compare({}, {}, 'run-123.service active transient')).toEqual([])
  })
})

describe('of templates', () => {
  test('instances follow a changed template', () => {
    expect(
      compare({ 'getty@.service': service('/1') }, { 'getty@.service': service('/2') }, 'getty@tty1.service'),
    ).toEqual(['restart getty@tty1.service changed'])
    expect(compare({ 'getty@.service': service('/1') }, {}, 'getty@tty1.service')).toEqual([
      'stop getty@tty1.service removed',
    ])
  })

  test('an instance that drop-ins made goes with the last of them, one started by hand stays', () => {
    const template = { 'x@.service': service('/1') }
    const made = { ...template, 'x@a.service.d/overrides.conf': '[Service]\nUser=a\n' }
    expect(compare(made, template, 'x@a.service', 'x@b.service')).toEqual(['stop x@a.service removed'])
  })
})

describe('of services with sockets', () => {
  const files = (start: string, more = ''): Files => ({
    'a.service': service(start, more),
    'a.socket': '[Socket]\nListenStream=1\n',
  })

  test('both stop, and only the socket starts', () => {
    expect(compare(files('/1'), files('/2'), 'a.service', 'a.socket')).toEqual([
      'stop a.service by-socket',
      'restart a.socket changed (a.service)',
    ])
  })

  test('both start when a target wants the service, or when it says that no socket starts it', () => {
    const wanted = [
      { ...TARGET, ...files('/1') },
      { ...TARGET, ...files('/2') },
    ] as const
    expect(compare(...wanted, 'a.service', 'a.socket', 'multi-user.target')).toContain(
      'restart a.service changed',
    )
    expect(compare(files('/1'), files('/2', 'X-NotSocketActivated=true'), 'a.service', 'a.socket')).toEqual([
      'restart a.service changed',
      'restart a.socket changed (a.service)',
    ])
  })

  test('a socket that is gone stops, and the service starts by itself', () => {
    const after = { 'a.service': service('/2') }
    expect(compare(files('/1'), after, 'a.service', 'a.socket')).toEqual([
      'restart a.service changed',
      'stop a.socket changed (a.service)',
    ])
  })

  test('the socket of an instance is that of its template', () => {
    const template = (start: string) => ({
      'a@.service': service(start),
      'a.socket': '[Socket]\nAccept=yes\n',
    })
    expect(compare(template('/1'), template('/2'), 'a@1.service', 'a.socket')).toContain(
      'stop a@1.service by-socket',
    )
  })
})

describe('A7: what the dry run does not foretell', () => {
  test('new units that an active target wants are started, also through another unit', () => {
    const after = {
      ...TARGET,
      'a.service': '[Unit]\nRequires=b.service\n[Service]\nExecStart=/1\n',
      'b.service': service('/1'),
      'c.service': service('/1'),
    }
    expect(compare({ 'multi-user.target': '[Unit]\n' }, after, 'multi-user.target')).toEqual([
      'start a.service new (multi-user.target)',
      'start b.service new (a.service)',
    ])
    expect(compare({}, after, 'multi-user.target inactive')).toEqual([])
  })

  test('wanted units that were stopped by hand or failed are started, unless their conditions do not hold', () => {
    const files = { ...TARGET, 'a.service': service('/1') }
    const started = ['start a.service stopped (multi-user.target)']
    expect(compare(files, files, 'multi-user.target', 'a.service inactive')).toEqual(started)
    expect(compare(files, files, 'multi-user.target', 'a.service failed')).toEqual(started)
    expect(compare(files, files, 'multi-user.target', 'a.service inactive condition')).toEqual([])
    const changed = { ...TARGET, 'a.service': service('/2') }
    expect(compare(files, changed, 'multi-user.target', 'a.service inactive condition')).toEqual(started)
  })

  test('a finished oneshot without RemainAfterExit runs at every switch, also when nothing changed', () => {
    const files = { ...TARGET, 'a.service': service('/1', 'Type=oneshot') }
    expect(compare(files, files, 'multi-user.target', 'a.service inactive')).toEqual([
      'start a.service runs-again (multi-user.target)',
    ])
  })

  test('units that require a stopped one stop with it, and come back where something wants them', () => {
    const files = (start: string): Files => ({
      'multi-user.target': '[Unit]\n',
      'multi-user.target.wants/a.service': '',
      'multi-user.target.wants/b.service': '',
      'a.service': service(start),
      'b.service': '[Unit]\nRequires=a.service\n[Service]\nExecStart=/b\n',
      'c.service': '[Unit]\nPartOf=b.service\n[Service]\nExecStart=/c\n',
    })
    expect(
      compare(files('/1'), files('/2'), 'multi-user.target', 'a.service', 'b.service', 'c.service'),
    ).toEqual([
      'restart a.service changed',
      'restart b.service follows (a.service)',
      'stop c.service follows (b.service)',
    ])
  })

  test('targets that refuse a start by hand, or are left from a suspend, start nothing', () => {
    const files = (target: string, text: string) => ({
      [target]: text,
      [`${target}.wants/a.service`]: '',
      'a.service': service('/1'),
    })
    const refusing = files('x.target', '[Unit]\nRefuseManualStart=true\n')
    expect(compare(refusing, refusing, 'x.target')).toEqual([])
    const suspend = files('suspend.target', '[Unit]\n')
    expect(compare(suspend, suspend, 'suspend.target')).toEqual([])
  })

  test('aliases are the unit they lead to', () => {
    const files = {
      'multi-user.target': '[Unit]\n',
      'multi-user.target.wants/other.service': '',
      'other.service': '-> a.service',
      'a.service': service('/1'),
    }
    expect(compare(files, files, 'multi-user.target', 'a.service')).toEqual([])
  })
})

describe('whatever the units', () => {
  const names = [
    'a.service',
    'b.service',
    'c.socket',
    'a.socket',
    'x.target',
    'd.timer',
    't@.service',
  ] as const
  const setting = fc.constantFrom(
    'X-RestartIfChanged=false',
    'X-ReloadIfChanged=true',
    'X-StopIfChanged=false',
    'Type=oneshot',
    'ExecStart=/1',
    'ExecStart=/2',
  )
  const unitSetting = fc.constantFrom(
    'Requires=a.service',
    'PartOf=b.service',
    'Wants=b.service',
    'X-StopOnRemoval=false',
    'After=x',
  )
  const text = fc.oneof(
    { weight: 5, arbitrary: fc.tuple(fc.array(setting), fc.array(unitSetting)) },
    { weight: 1, arbitrary: fc.constant(undefined) },
  )
  const folder = fc.record(Object.fromEntries(names.map(name => [name, text]))).map(files => {
    const made: Record<string, string> = { 'x.target.wants/a.service': '', 'x.target.wants/t@1.service': '' }
    for (const [name, value] of Object.entries(files)) {
      if (value === undefined) continue
      const [own, unit] = value
      made[name] = `[Unit]\n${unit.join('\n')}\n[Service]\n${own.join('\n')}\n`
    }
    return made
  })
  const states = fc.array(
    fc
      .tuple(
        fc.constantFrom(...names.slice(0, 6), 't@1.service'),
        fc.constantFrom('active', 'activating', 'inactive', 'failed', 'active transient'),
      )
      .map(words => words.join(' ')),
  )

  test('a unit is named at most once, and nothing is said of a running one that neither changes nor follows', () => {
    fc.assert(
      fc.property(folder, folder, states, (before, after, given) => {
        const known = unitStates(...given)
        const { changes } = compareUnits(unitFolder(before), unitFolder(after), known)
        expect(new Set(changes.map(({ unit }) => unit)).size).toBe(changes.length)
        for (const { unit, action, reason } of changes) {
          const state = known.get(unit)
          // Only what runs can stop, reload or be kept; only what does not run can start.
          if (action === 'start') expect(state?.active ?? 'inactive').toMatch(/^(inactive|failed)$/)
          else expect(state).toBeDefined()
          if (reason === 'removed') expect(after[unit]).toBeUndefined()
        }
      }),
    )
  })

  test('the same files stop, restart and reload nothing', () => {
    fc.assert(
      fc.property(folder, states, (files, given) => {
        const { changes } = compareUnits(unitFolder(files), unitFolder(files), unitStates(...given))
        expect(changes.filter(({ action }) => action !== 'start')).toEqual([])
      }),
    )
  })

  test('a running service with X-RestartIfChanged=false of its own is stopped only when it follows another', () => {
    fc.assert(
      fc.property(folder, folder, states, (before, after, given) => {
        const kept = { ...after, 'a.service': '[Service]\nX-RestartIfChanged=false\nExecStart=/9\n' }
        const { changes } = compareUnits(unitFolder(before), unitFolder(kept), unitStates(...given))
        const change = changes.find(({ unit }) => unit === 'a.service')
        if (change?.action === 'stop' || change?.action === 'restart') expect(change.reason).toBe('follows')
      }),
    )
  })
})
