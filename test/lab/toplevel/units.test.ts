import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { SET_UP_MS, whyNoLab } from '../why-not.ts'
import { Switching, service, trace, unitsIn } from './switching.ts'

const why = whyNoLab()

const stops = (word: string) => `ExecStop=${trace(word)}`
const oneshot = ['Type=oneshot', 'ExecStart=', `ExecStart=${trace('ran')}`]

/** One unit for each row of the table: as it is before, and after. Absent: not there. */
const rows: Readonly<Record<string, readonly [before: string | undefined, after?: string | null]>> = {
  'changed.service': [
    service('1', { lines: [stops('changed-stop-1')] }),
    service('2', { lines: [stops('changed-stop-2')] }),
  ],
  'restarted.service': [
    service('1', { lines: ['X-StopIfChanged=no', stops('restarted-stop-1')] }),
    service('2', { lines: ['X-StopIfChanged=no', stops('restarted-stop-2')] }),
  ],
  'reloaded.service': [
    service('1', { lines: ['X-ReloadIfChanged=yes', `ExecReload=${trace('reloaded')}`] }),
    service('2', { lines: ['X-ReloadIfChanged=yes', `ExecReload=${trace('reloaded')}`] }),
  ],
  'triggered.service': [
    service('1', { unit: ['X-Reload-Triggers=a'], lines: [`ExecReload=${trace('triggered')}`] }),
    service('1', { unit: ['X-Reload-Triggers=b'], lines: [`ExecReload=${trace('triggered')}`] }),
  ],
  'kept.service': [
    service('1', { lines: ['X-RestartIfChanged=no'] }),
    service('2', { lines: ['X-RestartIfChanged=no'] }),
  ],
  'manual.service': [
    service('1', { unit: ['X-OnlyManualStart=yes'] }),
    service('2', { unit: ['X-OnlyManualStart=yes'] }),
  ],
  'documented.service': [
    service('1', { unit: ['Documentation=man:a(1)'] }),
    service('1', { unit: ['Documentation=man:b(1)'] }),
  ],
  'removed.service': [service('1')],
  'masked.service': [service('1'), null],
  'staying.service': [service('1', { unit: ['X-StopOnRemoval=no'] })],
  'template@.service': [service('1', { wanted: false }), service('2', { wanted: false })],
  'unwanted.service': [service('1', { wanted: false }), service('2', { wanted: false })],
  'by-socket.socket': [
    '[Socket]\nListenStream=/run/by-socket\n[Install]\nWantedBy=sockets.target',
    '[Socket]\nListenStream=/run/by-socket\n[Install]\nWantedBy=sockets.target',
  ],
  'by-socket.service': [service('1', { wanted: false }), service('2', { wanted: false })],
  'tick.timer': [
    '[Timer]\nOnActiveSec=1d\nUnit=ticked.service\n[Install]\nWantedBy=timers.target',
    '[Timer]\nOnActiveSec=2d\nUnit=ticked.service\n[Install]\nWantedBy=timers.target',
  ],
  'ticked.service': [service('1', { wanted: false }), service('1', { wanted: false })],
  'new.service': [undefined, service('1')],
  'stopped.service': [service('1'), service('1')],
  'again.service': [service('1', { lines: oneshot }), service('1', { lines: oneshot })],
  'dependent.service': [
    service('1', { unit: ['Requires=changed.service', 'After=changed.service'] }),
    service('1', { unit: ['Requires=changed.service', 'After=changed.service'] }),
  ],
  'failed-wanted.service': [
    service('1', { lines: ['ExecStart=', 'ExecStart=/bin/false'] }),
    service('1', { lines: ['ExecStart=', 'ExecStart=/bin/false'] }),
  ],
}

/** The units of one side; what fails is left out unless it is asked for, because it makes every exit code 4. */
function side(index: 0 | 1, ...failing: readonly string[]) {
  return Object.fromEntries(
    Object.entries(rows).flatMap(([name, texts]) => {
      const text = texts[index]
      if (text === undefined || (name.startsWith('failed') && !failing.includes(name))) return []
      return [[name, text] as const]
    }),
  )
}

const activationScript = trace('activated')
const systems = {
  base: { units: side(0), activationScript },
  next: { units: side(1), activationScript },
  failing: { units: side(0, 'failed-wanted.service') },
  hanging: {
    units: {
      ...side(0),
      'hang.service': service('1', { lines: ['Type=notify', 'TimeoutStartSec=infinity'] }),
    },
  },
  slow: { units: side(1), activationScript: `${trace('slow')}; sleep 4` },
  slowStop: { units: { 'slow.service': service('1', { lines: ['ExecStop=/bin/sleep 3'] }), ...side(0) } },
}
let on: Switching<keyof typeof systems>

beforeAll(async () => {
  if (why === undefined) on = await Switching.start(systems)
}, SET_UP_MS)
afterAll(async () => await on?.[Symbol.asyncDispose]())

const runs = [...['changed', 'restarted', 'reloaded', 'triggered', 'kept', 'manual', 'documented', 'removed']]
const byHand = ['unwanted.service', 'template@a.service', 'by-socket.service']

/** Starts what no target wants, and stops what one does. */
async function prepare() {
  await on.machine.ok(['systemctl', 'start', ...byHand])
  await on.machine.ok(['systemctl', 'stop', 'stopped.service'])
  await on.sh('rm -f /run/trace')
}

const until = (condition: string) => `until ${condition} 2>/dev/null; do sleep 0.05; done`

/** Runs a switch and kills the program alone once something holds. Its children keep no pipe of ours open. */
async function killed(name: keyof typeof systems, condition: string) {
  const program = `${on.path[name]}/bin/switch-to-configuration test >/dev/null 2>&1`
  await on.machine.ok(['bash', '-c', `${program} & ${until(condition)}; kill -KILL $!`])
}

describe.skipIf(why !== undefined)(`what the stand-in switch does to units ${why ?? ''}`, () => {
  beforeEach(async () => {
    await on.reset('base')
    await prepare()
  })

  it('treats each as its files, old and new, ask for', async () => {
    const kept = await on.show('kept.service', 'MainPID')
    const staying = await on.show('staying.service', 'MainPID')
    const documented = await on.show('documented.service', 'MainPID')
    const { code, stderr } = await on.run('test', 'next')
    expect(code).toBe(0)
    expect(unitsIn(stderr, 'stopping the following units')).toEqual([
      ...['by-socket.service', 'by-socket.socket', 'changed.service', 'masked.service', 'removed.service'],
      ...['template@a.service', 'unwanted.service'],
    ])
    expect(unitsIn(stderr, 'NOT restarting the following changed units')).toEqual([
      'kept.service',
      'manual.service',
    ])
    expect(unitsIn(stderr, 'reloading the following units')).toEqual([
      'reloaded.service',
      'triggered.service',
    ])
    expect(unitsIn(stderr, 'restarting the following units')).toEqual(['restarted.service', 'tick.timer'])
    expect(unitsIn(stderr, 'starting the following units')).toEqual([
      ...['by-socket.socket', 'changed.service', 'template@a.service', 'unwanted.service'],
    ])
    expect(unitsIn(stderr, 'the following new units were started')).toEqual([
      'new.service',
      'stopped.service',
    ])
    // A service that is stopped is stopped with its old file, one that is restarted with its new one.
    const traced = await on.traced()
    expect(traced.slice(0, 2)).toEqual(['changed-stop-1', 'activated'])
    expect(traced.slice(2).toSorted()).toEqual(['ran', 'reloaded', 'restarted-stop-2', 'triggered'])
    // It runs as it was, though systemctl tells what the new file says.
    expect(await on.show('kept.service', 'MainPID')).toBe(kept)
    expect(await on.show('kept.service', 'Environment')).toBe('VERSION=2')
    expect(await on.sh(`tr '\\0' '\\n' </proc/${kept}/environ`)).toContain('VERSION=1')
    expect(await on.show('staying.service', 'MainPID')).toBe(staying)
    expect(await on.show('staying.service', 'LoadState')).toBe('not-found')
    expect(await on.show('documented.service', 'MainPID')).toBe(documented)
    expect(await on.isActive('by-socket.service')).toBe(false)
    expect(await on.isActive('by-socket.socket')).toBe(true)
    expect(await on.isActive('dependent.service')).toBe(true)
    expect(await on.isActive('masked.service')).toBe(false)
  })

  it('is predicted only in part by a dry run', async () => {
    const { stderr } = await on.run('dry-activate', 'next')
    expect(unitsIn(stderr, 'would NOT stop the following changed units')).toEqual([
      'kept.service',
      'manual.service',
    ])
    expect(unitsIn(stderr, 'would reload the following units')).toEqual([
      'reloaded.service',
      'triggered.service',
    ])
    for (const untold of ['dependent.service', 'new.service', 'stopped.service', 'again.service'])
      expect(stderr).not.toContain(untold)
  })

  it('runs a finished oneshot again, and starts what was stopped by hand, when nothing changed', async () => {
    const { code, stderr } = await on.run('test', 'base')
    expect(code).toBe(0)
    expect(await on.traced()).toEqual(['activated', 'ran'])
    expect(await on.isActive('stopped.service')).toBe(true)
    expect(unitsIn(stderr, 'stopping the following units')).toBeUndefined()
  })

  it('forgets an old failed unit, unless a target wants it and it fails again', async () => {
    expect((await on.run('test', 'failing')).code).toBe(4)
    expect((await on.run('test', 'failing')).code).toBe(4)
    await on.reset('base')
    await on.sh(
      'systemd-run --quiet --unit=passing /bin/false; until systemctl is-failed -q passing; do sleep 0.05; done',
    )
    expect(await on.machine.failedUnits()).toEqual(['passing.service'])
    expect((await on.run('test', 'base')).code).toBe(0)
    expect(await on.machine.failedUnits()).toEqual([])
  })

  it('leaves transient units alone', async () => {
    await on.sh('systemd-run --quiet --unit=passing sleep infinity')
    const pid = await on.show('passing.service', 'MainPID')
    expect((await on.run('test', 'next')).code).toBe(0)
    expect(await on.show('passing.service', 'MainPID')).toBe(pid)
    await on.sh('systemctl stop passing')
  })

  it('waits for a job without a time limit, and the system before stops what hangs', async () => {
    const program = `${on.path.hanging}/bin/switch-to-configuration`
    await on.sh(`systemd-run --quiet --unit=run --service-type=exec ${program} test`)
    await expect.poll(() => on.sh('systemctl list-jobs --no-legend')).toContain('hang.service')
    expect((await on.run('test', 'base')).code).toBe(11)
    expect(await on.isActive('run.service')).toBe(true)
    await on.sh('systemctl stop run')
    const { code, stderr } = await on.run('test', 'base')
    expect(code).toBe(0)
    expect(unitsIn(stderr, 'stopping the following units')).toContain('hang.service')
  })

  it('lets an activation outlive the killed program, and move /run/current-system behind a later switch', async () => {
    await killed('slow', 'grep -q slow /run/trace')
    expect((await on.run('test', 'base')).code).toBe(0)
    expect((await on.machine.state()).current).toBe(on.path.base)
    await expect.poll(async () => (await on.machine.state()).current).toBe(on.path.slow)
    expect((await on.sh('readlink /etc/static')).trim()).toBe(`${on.path.base}/etc`)
  })

  it('ends with its whole control group when its unit is stopped, and the unit tells of success', async () => {
    const program = `${on.path.slow}/bin/switch-to-configuration`
    await on.sh(
      `systemd-run --quiet --unit=run --service-type=exec ${program} test; ${until('grep -q slow /run/trace')}; systemctl stop run`,
    )
    expect(await on.show('run.service', 'Result')).toBe('success')
    expect(await on.show('run.service', 'LoadState')).toBe('not-found')
    expect((await on.lists()).start).toContain('changed.service')
    await on.sh('sleep 4')
    expect((await on.machine.state()).current).toBe(on.path.base)
  })

  it('is finished by the next run when it was killed while it stopped units', async () => {
    await on.reset('slowStop')
    await killed('next', 'systemctl is-active slow.service | grep -q deactivating')
    const lists = await on.lists()
    expect(lists.start).toContain('changed.service')
    expect(lists.restart).toContain('restarted.service')
    const { code, stderr } = await on.run('test', 'next')
    expect(code).toBe(0)
    for (const name of runs.filter(name => name !== 'removed'))
      expect({ name, active: await on.isActive(`${name}.service`) }).toEqual({ name, active: true })
    expect(await on.lists()).toEqual({})
    expect(stderr).toContain('restarted.service')
  })

  it('can be kept from starting a unit by systemd.control and by a condition, but not by a runtime mask', async () => {
    await on.machine.exec(['systemctl', 'mask', '--runtime', 'stopped.service'])
    expect((await on.run('test', 'base')).code).toBe(0)
    expect(await on.isActive('stopped.service')).toBe(true)
    await on.sh('systemctl unmask --runtime stopped.service; systemctl stop stopped.service')
    await on.sh(
      'mkdir -p /run/systemd/system.control; ln -s /dev/null /run/systemd/system.control/stopped.service',
    )
    await on.sh('systemctl daemon-reload')
    expect((await on.run('test', 'base')).code).toBe(0)
    expect(await on.isActive('stopped.service')).toBe(false)
    await on.sh(
      'rm /run/systemd/system.control/stopped.service; mkdir -p /run/systemd/system/stopped.service.d',
    )
    await on.sh(
      'printf "[Unit]\\nConditionPathExists=/run/go\\n" >/run/systemd/system/stopped.service.d/hold.conf; systemctl daemon-reload',
    )
    expect((await on.run('test', 'base')).code).toBe(0)
    expect(await on.isActive('stopped.service')).toBe(false)
    await on.sh('rm -r /run/systemd/system/stopped.service.d; systemctl daemon-reload')
  })
})
