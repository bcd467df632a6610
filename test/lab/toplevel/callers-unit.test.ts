import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { SET_UP_MS, whyNoLab } from '../why-not.ts'
import { Switching, service } from './switching.ts'

const why = whyNoLab()

/** The text of a service that runs whatever stands in /run/command, once, and notes how it ended. */
function caller(version: string, ...lines: readonly string[]): string {
  const script = 'while [ ! -e /run/command ]; do sleep 0.1; done; mv /run/command /run/command.now; '
  const run = 'sh /run/command.now; echo exit $? >/run/ended; exec sleep infinity'
  return service(version, { lines: ['ExecStart=', `ExecStart=/bin/sh -c '${script}${run}'`, ...lines] })
}

const pair = (...lines: readonly string[]) => [caller('1', ...lines), caller('2', ...lines)] as const
const callers = {
  plain: pair(),
  restarted: pair('X-StopIfChanged=no'),
  left: pair('X-RestartIfChanged=no'),
  process: pair('KillMode=process'),
}
type Kind = keyof typeof callers
const kinds = Object.keys(callers) as Kind[]
const other = (version: string) => ({ 'other.service': service(version) })
const before = Object.fromEntries(kinds.map(kind => [`${kind}.service`, callers[kind][0]]))
const after = (kind: Kind) => ({ ...before, ...other('2'), [`${kind}.service`]: callers[kind][1] })
const systems = {
  base: { units: { ...before, ...other('1') } },
  plain: { units: after('plain') },
  restarted: { units: after('restarted') },
  left: { units: after('left') },
  process: { units: after('process') },
}
let on: Switching<keyof typeof systems>

beforeAll(async () => {
  if (why === undefined) on = await Switching.start(systems)
}, SET_UP_MS)
afterAll(async () => await on?.[Symbol.asyncDispose]())

const program = (kind: Kind) => `${on.path[kind]}/bin/switch-to-configuration test`

/** Lets a caller's unit do something; the other callers' units are stopped, because all of them wait for the same file. */
async function call(kind: Kind, command: string): Promise<void> {
  const idle = kinds.filter(name => name !== kind).map(name => `${name}.service`)
  await on.machine.ok(['systemctl', 'stop', ...idle])
  await on.machine.writeFile('/run/next', `${command}\n`)
  await on.sh('rm -f /run/ended; mv /run/next /run/command')
}

const ended = async () => (await on.sh('cat /run/ended 2>/dev/null || true')).trim()
const current = async () => (await on.machine.state()).current
const quiet = async () => !(await on.sh('pgrep -f [s]witch_to_configuration || true')).trim()

describe.skipIf(why !== undefined)(`a switch that is started by a unit which it changes ${why ?? ''}`, () => {
  beforeEach(async () => {
    await expect.poll(quiet).toBe(true)
    await on.reset('base')
  })

  it('is killed in the stop phase as its child; the unit stays down and nothing was activated', async () => {
    await call('plain', program('plain'))
    await expect.poll(quiet).toBe(true)
    await expect.poll(() => on.isActive('plain.service')).toBe(false)
    expect(await current()).toBe(on.path.base)
    expect((await on.lists()).start).toContain('plain.service')
    expect(await ended()).toBe('')
  })

  it('is killed in the restart phase where the unit is restarted: activated, but what was stopped stays so', async () => {
    await call('restarted', program('restarted'))
    await expect.poll(current).toBe(on.path.restarted)
    await expect.poll(quiet).toBe(true)
    await expect.poll(() => on.isActive('restarted.service')).toBe(true)
    expect(await on.isActive('other.service')).toBe(false)
    expect((await on.lists()).start).toContain('other.service')
  })

  it('comes to its end where the unit is left alone, which then runs the old process with the new file', async () => {
    await call('left', program('left'))
    await expect.poll(ended).toBe('exit 0')
    expect(await current()).toBe(on.path.left)
    expect(await on.isActive('other.service')).toBe(true)
    expect(await on.show('left.service', 'Environment')).toBe('VERSION=2')
  })

  it('finishes as an orphan where only the process is killed, and its exit code is lost', async () => {
    await call('process', program('process'))
    await expect.poll(current).toBe(on.path.process)
    await expect.poll(() => on.isActive('other.service')).toBe(true)
    expect(await ended()).toBe('')
  })

  it('finishes in a unit of its own, whose second start is refused while the first is there', async () => {
    const run = `systemd-run --unit=run --no-block --service-type=exec`
    await call('plain', `${run} ${program('plain')}; sleep infinity`)
    await expect.poll(current).toBe(on.path.plain)
    await expect.poll(() => on.isActive('plain.service')).toBe(true)
    expect(await on.isActive('other.service')).toBe(true)
    await on.sh('systemd-run --quiet --unit=held sleep infinity')
    const again = await on.machine.exec(['systemd-run', '--unit=held', 'true'])
    expect(again.code).toBe(1)
    expect(again.stderr).toContain('was already loaded or has a fragment file')
    await on.sh('systemctl stop held')
  })

  it('T21: dies with 101 after the stop phase where its output goes into a pipe of the unit', async () => {
    await call(
      'plain',
      `systemd-run --unit=run --pipe --service-type=exec ${program('plain')} 2>&1 | cat >/run/said`,
    )
    await expect.poll(() => on.isActive('plain.service')).toBe(false)
    await expect.poll(() => on.show('run.service', 'ExecMainStatus')).toBe('101')
    expect(await current()).toBe(on.path.base)
    await on.sh('systemctl reset-failed')
  })
})
