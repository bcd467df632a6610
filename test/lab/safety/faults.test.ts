import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { waitUntil } from '../../support/wait-until.ts'
import { type AgentProgram, buildAgentProgram } from '../agent-program.ts'
import { type LabFleet, startLabFleet } from '../lab-fleet.ts'
import type { SystemOptions } from '../systems.ts'
import { service } from '../toplevel/switching.ts'
import { SET_UP_MS, whyNoLab } from '../why-not.ts'
import { allAt, atRest, inWords, untilJournaled, untilPhase } from './safe-fleet.ts'

const why = whyNoLab()
let fleet: LabFleet
let broken: AgentProgram
let newer: AgentProgram
let notes = 0

beforeAll(async () => {
  if (why !== undefined) return
  broken = await buildAgentProgram({ version: '0.1.66', broken: true })
  newer = await buildAgentProgram({ version: '0.1.67' })
  fleet = await startLabFleet({
    machines: ['olaf'],
    moreAgents: [broken, newer],
    // A switch that hangs is ended after ten seconds, so that nobody waits for half an hour.
    agentConfig: { deadlines: { switchMs: 10_000 }, generations: { keep: 2 } },
  })
}, SET_UP_MS)
afterAll(async () => await fleet?.[Symbol.asyncDispose]())

/** A unit that is wanted by the machine, with these lines as its service. */
const unit = (...lines: string[]) =>
  ['[Service]', ...lines, '[Install]', 'WantedBy=multi-user.target'].join('\n')

/** Applies a change that must not stay, and shows that the machine is where it was before. */
async function goesBack(change: SystemOptions, words: string, reason: RegExp) {
  const olaf = fleet.machine('olaf')
  const { booted: _, ...before } = await olaf.state()
  // The same change twice is another revision, of another tree and the same system.
  await fleet.publish({ olaf: change }, { files: { 'notes.txt': `${++notes}\n` } })
  const id = await fleet.apply('olaf')
  const outcome = await fleet.waitOutcome(id)
  expect(inWords(outcome)).toBe(words)
  expect(outcome.reason).toMatch(reason)
  await atRest(fleet, 'olaf')
  const { booted: __, ...after } = await olaf.state()
  expect(after).toEqual(before)
  return { id, outcome }
}

describe.skipIf(why !== undefined)(`a change that goes wrong ${why ?? ''}`, () => {
  it('is refused before anything is touched when it has no agent (T17)', async () => {
    await goesBack({ agent: null }, 'refused no-agent', /cut this node off/)
  })

  it.each<[string, SystemOptions, string, RegExp]>([
    [
      'fails in a check (exit 1)',
      { preSwitchChecks: { no: 'exit 1' } },
      'activation failed',
      /nothing was touched/,
    ],
    [
      'fails its activation (exit 2)',
      { activationScript: 'exit 3' },
      'rolled back (activation failed)',
      /exit 2/,
    ],
    [
      'fails a unit (exit 4)',
      { units: { 'bad.service': unit('Type=oneshot', 'ExecStart=/bin/false') } },
      'rolled back (activation failed)',
      /units failed \(exit 4\): bad\.service/,
    ],
    [
      'breaks off in the middle (exit 1), by a list that would end the way back there as well',
      { preSwitchChecks: { wedge: 'mkdir -p /run/nixos; echo ghost.service >/run/nixos/reload-list' } },
      'rolled back (activation failed)',
      /broke off in the middle \(exit 1/,
    ],
    [
      'says that all is well (exit 0) while the old system runs on',
      { activationScript: 'exit 0', units: { 'units-only.service': service('1') } },
      'rolled back (activation failed)',
      /ended with 0, but \/run\/current-system is/,
    ],
    ['needs another init interface (exit 100)', { initInterface: 'other 2' }, 'reboot required', /reboot/],
  ])('that %s leaves the machine where it was', async (_, change, words, reason) => {
    await goesBack(change, words, reason)
  })

  it('hangs in the start of a unit: the switch is stopped whole, and what it waited for is named (N6)', async () => {
    const hanging = unit('Type=notify', 'ExecStart=/bin/sleep infinity', 'TimeoutStartSec=infinity')
    await goesBack(
      { units: { 'hangs.service': hanging } },
      'rolled back (activation failed)',
      /did not end in its time, waiting for .*hangs\.service start/,
    )
  })

  it('leaves a process that not even SIGKILL ends: nothing goes back beside it, and it is named (N6)', {
    timeout: 8 * 60_000,
  }, async () => {
    const olaf = fleet.machine('olaf')
    const { booted: _, ...before } = await olaf.state()
    const silent = [
      'systemd-run',
      '--unit=silent-files',
      '--collect',
      '/opt/muster-lab/silent-files',
      '/run/silent',
    ]
    await olaf.ok(silent)
    try {
      await waitUntil('a file system that never answers', async () => {
        return (await olaf.exec(['mountpoint', '-q', '/run/silent'])).code === 0 || undefined
      })
      await fleet.publish({ olaf: { activationScript: 'cat /run/silent/file', generation: 'silent' } })
      const id = await fleet.apply('olaf')
      const unit = (kind: string) => `muster-${kind}-${id}-1.service`
      await waitUntil(
        'systemd gives the switch up',
        async () => /after final SIGKILL/.test(await olaf.journal(unit('switch'))) || undefined,
        { timeoutMs: 5 * 60_000, everyMs: 1_000 },
      )
      // For systemd nothing of it is there any more. The kernel knows better.
      await waitUntil(
        'the way back is told to wait',
        async () =>
          /waits: .* process \d+ \(cat\) does not end/.test(await olaf.journal(unit('return'))) || undefined,
        { timeoutMs: 2 * 60_000, everyMs: 1_000 },
      )
      await new Promise(resolve => setTimeout(resolve, 10_000))
      expect((await olaf.ok(['ps', '-C', 'cat', '-o', 'state='])).trim()).toBe('D')
      expect(await olaf.journal(unit('back'))).toBe('')
      expect((await fleet.operation(id))?.outcome).toBeUndefined()

      await olaf.ok(['systemctl', 'stop', 'silent-files.service'])
      const outcome = await fleet.waitOutcome(id)
      expect(inWords(outcome)).toBe('rolled back (activation failed)')
      expect(outcome.reason).toMatch(/did not end in its time.* process \d+ \(cat\) does not end/)
      await atRest(fleet, 'olaf')
      const { booted: __, ...after } = await olaf.state()
      expect(after).toEqual(before)
    } finally {
      await olaf.exec(['systemctl', 'stop', 'silent-files.service'])
      await olaf.exec(['umount', '--lazy', '/run/silent'])
    }
  })

  it('finds another switch at work: it is busy, and what that other one does stays (exit 11)', async () => {
    const olaf = fleet.machine('olaf')
    await olaf.ok(['mkdir', '-p', '/run/nixos'])
    await olaf.ok([
      'systemd-run',
      '--unit=by-hand',
      '--collect',
      'flock',
      '/run/nixos/switch-to-configuration.lock',
      'bash',
      '-c',
      'exec -a switch-to-configuration sleep 600',
    ])
    try {
      await goesBack({ units: { 'later.service': service('1') } }, 'busy', /another switch/)
      const lock = await olaf.exec(['flock', '--nonblock', '/run/nixos/switch-to-configuration.lock', 'true'])
      expect(lock.code).toBe(1)
    } finally {
      await olaf.ok(['systemctl', 'stop', 'by-hand.service'])
    }
  })

  it('T22: is killed in the middle: no word of its end is no success, and it goes back', async () => {
    const olaf = fleet.machine('olaf')
    const { booted: _, ...before } = await olaf.state()
    await fleet.publish({ olaf: { activationScript: 'sleep 5', units: { 'kill.service': service('1') } } })
    const id = await fleet.apply('olaf')
    await untilPhase(olaf, id, Phase.ACTIVATE)
    await olaf.ok([
      'sh',
      '-c',
      `until systemctl is-active -q muster-switch-${id}-1; do :; done; sleep 0.5; systemctl kill --signal=KILL muster-switch-${id}-1.service`,
    ])
    expect(inWords(await fleet.waitOutcome(id))).toBe('rolled back (unknown)')
    await atRest(fleet, 'olaf')
    expect(await olaf.state()).toMatchObject(before)
  })

  it('T20, T36: brings an agent that does not start: the machine goes back without one (N1)', async () => {
    await goesBack(
      { agent: fleet.agentOf(broken) },
      'rolled back (activation failed)',
      /the agent did not come back/,
    )
  })

  it('T36: brings an agent that a drop-in of the machine keeps from being started: the old one does not confirm it', async () => {
    const olaf = fleet.machine('olaf')
    const folder = '/run/systemd/system/muster-agent.service.d'
    const old = `${fleet.agent.path}/bin/muster-agent`
    const lines = ['[Service]', 'ExecStart=', `ExecStart=${old} --config /etc/muster/agent.json`]
    await olaf.ok(['mkdir', '-p', folder])
    await olaf.writeFile(`${folder}/debug.conf`, `${lines.join('\n')}\n`)
    await olaf.ok(['systemctl', 'daemon-reload'])
    const { outcome } = await goesBack(
      { agent: fleet.agentOf(newer) },
      'rolled back (unknown)',
      /was never started: systemd starts .* by \/run\/systemd\/system\/muster-agent\.service\.d\/debug\.conf;/,
    )
    expect(outcome.reason).toContain(`(${newer.path}/bin/muster-agent)`)
    expect(outcome.reason).toContain(`starts ${old} in its place`)
    await olaf.ok(['rm', '-r', folder])
    await olaf.ok(['systemctl', 'daemon-reload'])
  })

  it('cuts the machine off its network: nobody confirms, and it comes back by itself (N35)', async () => {
    await goesBack({ network: null }, 'unconfirmed (unconfirmed)', /the coordinator did not answer in time/)
  })

  it('meets a coordinator that is gone for longer than the confirm time, and goes back', async () => {
    const olaf = fleet.machine('olaf')
    const { booted: _, ...before } = await olaf.state()
    const toml = '[defaults]\nsoak = "1s"\nconfirm-within = "8s"\n'
    await fleet.publish({ olaf: { units: { 'alone.service': service('1') } } }, { toml })
    const id = await fleet.apply('olaf')
    await untilPhase(olaf, id, Phase.ACTIVATE)
    await fleet.fleet.coordinator?.kill()
    // Its end, not the phase of the way back: the dead man may have gone the whole way before the agent looked again.
    await untilJournaled(olaf, id, 'outcome')
    expect((await olaf.state()).current).toBe(before.current)
    await fleet.fleet.startCoordinator()
    expect(inWords(await fleet.waitOutcome(id))).toBe('unconfirmed (unconfirmed)')
    await atRest(fleet, 'olaf')
    expect(await olaf.state()).toMatchObject(before)
  })

  it('is not tried again after it failed here, whatever number it comes back under (T56)', async () => {
    const change = { activationScript: 'exit 3', generation: 'again' }
    await goesBack(change, 'rolled back (activation failed)', /exit 2/)
    await goesBack(change, 'refused quarantined', /muster retry/)
    const olaf = fleet.machine('olaf')
    await olaf.ok([join(fleet.agent.path, 'bin/muster-agent'), 'retry'])
    await goesBack(change, 'rolled back (activation failed)', /exit 2/)
  })

  it('meets what a power cut left of the boot loader: it is put right, or none could ever be written again', async () => {
    const olaf = fleet.machine('olaf')
    await olaf.writeFile('/boot/loader/loader.tmp', 'timeout 0\ndefau')
    await fleet.publish({ olaf: { units: { 'cut.service': service('1') } } })
    expect(inWords(await fleet.waitOutcome(await fleet.apply('olaf')))).toBe('succeeded')
    await atRest(fleet, 'olaf')
    expect(await olaf.state()).toMatchObject(allAt(await fleet.systemOf('olaf')))
  })

  it('and the next good one succeeds', async () => {
    await fleet.publish({ olaf: { units: { 'good.service': service('1') } } })
    expect(inWords(await fleet.waitOutcome(await fleet.apply('olaf')))).toBe('succeeded')
    await atRest(fleet, 'olaf')
    expect(await fleet.machine('olaf').state()).toMatchObject(allAt(await fleet.systemOf('olaf')))
  })

  it('leaves so many generations as the node keeps, in the profile and on the boot partition', async () => {
    const olaf = fleet.machine('olaf')
    const { booted } = await olaf.state()
    const reached: string[] = []
    for (const word of ['one', 'two', 'three']) {
      await fleet.publish({ olaf: { units: { 'kept.service': service(word) } } })
      expect(inWords(await fleet.waitOutcome(await fleet.apply('olaf')))).toBe('succeeded')
      await atRest(fleet, 'olaf')
      reached.push(await fleet.systemOf('olaf'))
    }
    const names = async (command: string) =>
      (await olaf.ok(['sh', '-c', command])).trim().split('\n').toSorted()
    // Tidied up after the outcome was told, the boot partition last.
    await waitUntil('older generations are gone', async () => {
      expect(await names('readlink /nix/var/nix/profiles/system-*-link')).toEqual(
        [booted, ...reached.slice(-2)].toSorted(),
      )
      const numbers = await names('cd /nix/var/nix/profiles; ls -d system-*-link | tr -dc "0-9\\n"')
      expect(await names('ls /boot/loader/entries | tr -dc "0-9\\n"')).toEqual(numbers)
      return true as const
    })
  })
})
