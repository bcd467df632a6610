import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { waitUntil } from '../../support/wait-until.ts'
import { type LabFleet, startLabFleet } from '../lab-fleet.ts'
import type { SystemOptions } from '../systems.ts'
import { service } from '../toplevel/switching.ts'
import { SET_UP_MS, whyNoLab } from '../why-not.ts'
import { allAt, atRest, inWords, untilPhase } from './safe-fleet.ts'

const why = whyNoLab()
let fleet: LabFleet

/** Little room for what the agent keeps, so that a change can use it up. */
const LITTLE_ROOM = [
  ...['[Unit]', 'Before=muster-dead-man.service muster-agent.service'],
  ...['[Mount]', 'What=tmpfs', 'Where=/var/lib/muster-agent', 'Type=tmpfs', 'Options=size=48M,mode=0700'],
  ...['[Install]', 'WantedBy=local-fs.target'],
].join('\n')

beforeAll(async () => {
  if (why !== undefined) return
  fleet = await startLabFleet({
    machines: ['olaf', 'nils'],
    systems: { nils: { units: { 'var-lib-muster\\x2dagent.mount': LITTLE_ROOM } } },
  })
}, SET_UP_MS)
afterAll(async () => await fleet?.[Symbol.asyncDispose]())

const unit = (...lines: string[]) =>
  ['[Service]', ...lines, '[Install]', 'WantedBy=multi-user.target'].join('\n')
const proof = (...lines: string[]) => ['[defaults]', 'confirm-within = "20s"', ...lines, ''].join('\n')

async function applied(
  host: string,
  change: SystemOptions,
  options: Parameters<LabFleet['publish']>[1] = {},
) {
  await fleet.publish({ [host]: change }, options)
  const outcome = await fleet.waitOutcome(await fleet.apply(host))
  await atRest(fleet, host)
  return outcome
}

async function placesOf(host: string) {
  const { booted: _, ...places } = await fleet.machine(host).state()
  return places
}

describe.skipIf(why !== undefined)(`a switch ${why ?? ''}`, () => {
  it.each(['activate', 'init-interface-version', 'systemd', 'sysinit-reactivation.target'] as const)(
    'to a system without %s is refused: it would go wrong without a word (exit 0, exit 2)',
    async missing => {
      const before = await placesOf('olaf')
      const outcome = await applied('olaf', { omit: [missing] })
      expect(inWords(outcome)).toBe('refused incomplete')
      expect(await placesOf('olaf')).toEqual(before)
    },
  )

  it('is not wedged by the stale list of an interrupted one', async () => {
    const olaf = fleet.machine('olaf')
    await olaf.ok(['sh', '-c', 'mkdir -p /run/nixos; echo gone.service > /run/nixos/reload-list'])
    expect(inWords(await applied('olaf', { units: { 'tidy.service': service('1') } }))).toBe('succeeded')
    expect((await olaf.ok(['systemctl', 'is-active', 'tidy.service'])).trim()).toBe('active')
  })

  it('does not mind that the journal restarts under it (T21)', async () => {
    const change = { activationScript: 'systemctl restart systemd-journald', generation: 'journald' }
    expect(inWords(await applied('olaf', change))).toBe('succeeded')
  })

  it('that cannot write a word any more (exit 101) goes back', async () => {
    const before = await placesOf('olaf')
    const script = [
      'systemd-run --on-active=4s --timer-property=AccuracySec=100ms systemctl start systemd-journald.socket systemd-journald.service',
      'systemctl stop systemd-journald.socket systemd-journald-dev-log.socket systemd-journald.service',
    ].join('\n')
    const outcome = await applied('olaf', { activationScript: script })
    expect(inWords(outcome)).toBe('rolled back (unknown)')
    expect(outcome.reason).toContain('the switch ended with 101')
    expect(await placesOf('olaf')).toEqual(before)
  })

  it('that breaks off in the middle for want of logind (exit 11) goes back, and is not taken for busy', async () => {
    const before = await placesOf('olaf')
    const script = [
      "systemd-run --on-active=4s --timer-property=AccuracySec=100ms sh -c 'systemctl unmask --runtime systemd-logind; systemctl start systemd-logind'",
      'systemctl stop systemd-logind',
      'systemctl mask --runtime systemd-logind',
    ].join('\n')
    const outcome = await applied('olaf', { activationScript: script })
    expect(inWords(outcome)).toBe('rolled back (activation failed)')
    expect(outcome.reason).toMatch(/in the middle \(exit 11/)
    expect(await placesOf('olaf')).toEqual(before)
  })

  it('T24: that loses the bus it speaks over, in the middle, goes back', async () => {
    const before = await placesOf('olaf')
    const script = [
      'systemd-run --on-active=4s --timer-property=AccuracySec=100ms systemctl start dbus.socket dbus.service',
      'systemctl stop dbus.socket dbus.service',
    ].join('\n')
    const outcome = await applied('olaf', { activationScript: script })
    expect(inWords(outcome)).toBe('rolled back (activation failed)')
    expect(outcome.reason).toMatch(/in the middle \(exit 1/)
    expect(await placesOf('olaf')).toEqual(before)
  })

  it('whose program alone is killed leaves no activation script behind that would move the system later', async () => {
    const olaf = fleet.machine('olaf')
    const before = await placesOf('olaf')
    await fleet.publish({ olaf: { activationScript: 'sleep 4; touch /run/orphan-lived' } })
    const id = await fleet.apply('olaf')
    await untilPhase(olaf, id, Phase.ACTIVATE)
    const name = `muster-switch-${id}-1`
    await olaf.ok([
      'sh',
      '-c',
      `until systemctl is-active -q ${name}; do :; done; sleep 1; systemctl kill --kill-who=main --signal=KILL ${name}.service`,
    ])
    expect(inWords(await fleet.waitOutcome(id))).toBe('rolled back (unknown)')
    await atRest(fleet, 'olaf')
    await new Promise(resolve => setTimeout(resolve, 4_000))
    expect((await olaf.exec(['test', '-e', '/run/orphan-lived'])).code).toBe(1)
    expect(await placesOf('olaf')).toEqual(before)
  })

  it('keeps another one out while it runs, and comes to its end (a rebuild by hand at the same time)', async () => {
    const olaf = fleet.machine('olaf')
    const { current } = await placesOf('olaf')
    await fleet.publish({ olaf: { activationScript: 'sleep 4', units: { 'slow.service': service('1') } } })
    const id = await fleet.apply('olaf')
    await untilPhase(olaf, id, Phase.ACTIVATE)
    await olaf.ok(['sh', '-c', `until systemctl is-active -q muster-switch-${id}-1; do :; done; sleep 1`])
    const byHand = await olaf.exec([`${current}/bin/switch-to-configuration`, 'test'])
    expect(byHand.code).toBe(11)
    expect(inWords(await fleet.waitOutcome(id))).toBe('succeeded')
    await atRest(fleet, 'olaf')
  })

  it('N3: after which a unit falls over, when the switch has long said that all is well, goes back', async () => {
    const before = await placesOf('olaf')
    const dying = unit('ExecStart=/bin/sh -c "sleep 2; exit 1"')
    const outcome = await applied(
      'olaf',
      { units: { 'dying.service': dying } },
      { toml: proof('soak = "6s"') },
    )
    expect(inWords(outcome)).toBe('rolled back (activation failed)')
    expect(outcome.reason).toContain('dying.service')
    expect(await placesOf('olaf')).toEqual(before)
  })

  it('that fails only what may fail is degraded and stays, and the next one is not blamed for it', async () => {
    const toml = proof('soak = "1s"', 'tolerated-units = ["backup.service"]')
    const units = { 'backup.service': unit('Type=oneshot', 'ExecStart=/bin/false') }
    const outcome = await applied('olaf', { units }, { toml })
    expect(inWords(outcome)).toBe('degraded')
    expect(outcome.reason).toContain('backup.service')
    expect(await placesOf('olaf')).toEqual(allAt(await fleet.systemOf('olaf')))
    const more = { ...units, 'next.service': service('1') }
    const next = await applied('olaf', { units: more }, { toml: proof('soak = "1s"') })
    expect(inWords(next)).toBe('succeeded')
    expect(await placesOf('olaf')).toEqual(allAt(await fleet.systemOf('olaf')))
  })

  it('is proved by scripts of the fleet directory: one that says no brings the old system back', async () => {
    const before = await placesOf('olaf')
    const toml = [
      proof('soak = "1s"', 'gates = ["probe"]'),
      '[gates.probe]',
      'script = "checks/probe"',
      'deadline = "5s"',
      '',
    ].join('\n')
    const probe = (exit: number) => ({
      toml,
      files: { 'checks/probe': `#!/bin/sh\necho probed\nexit ${exit}\n` },
    })
    const bad = await applied('olaf', { units: { 'probed.service': service('1') } }, probe(1))
    expect(inWords(bad)).toMatch(/^rolled back/)
    expect(bad.reason).toContain('probe')
    expect(await placesOf('olaf')).toEqual(before)
    await fleet.machine('olaf').ok([`${fleet.agent.path}/bin/muster-agent`, 'retry'])
    const good = await applied('olaf', { units: { 'probed.service': service('2') } }, probe(0))
    expect(inWords(good)).toBe('succeeded')
  })

  it('that fills the disk with the agent’s own records on it goes back and is told', async () => {
    const nils = fleet.machine('nils')
    const before = await placesOf('nils')
    const mount = { 'var-lib-muster\\x2dagent.mount': LITTLE_ROOM }
    const outcome = await applied('nils', {
      units: mount,
      activationScript: 'head -c 200M /dev/zero > /var/lib/muster-agent/fill; exit 3',
    })
    expect(inWords(outcome)).toBe('rolled back (activation failed)')
    expect(await placesOf('nils')).toEqual(before)
    await nils.ok(['rm', '/var/lib/muster-agent/fill'])
    expect(inWords(await applied('nils', { units: { ...mount, 'after.service': service('1') } }))).toBe(
      'succeeded',
    )
  })
})

describe.skipIf(why !== undefined)(`a reboot ${why ?? ''}`, () => {
  it('T52: on order is one when the machine runs another boot', async () => {
    const nils = fleet.machine('olaf')
    const before = await nils.bootId()
    const { operations } = await fleet.fleet.api.giveOrders({
      refs: ['olaf'],
      requestId: `reboot-${before}`,
      action: { case: 'reboot', value: {} },
    })
    expect(inWords(await fleet.waitOutcome(operations[0]?.operationId ?? ''))).toBe('succeeded')
    expect(await nils.bootId()).not.toBe(before)
    await atRest(fleet, 'olaf')
  })

  const withoutTrial = proof('soak = "1s"', 'reboot = "required"', 'trial = "none"')

  it('reaches what no switch reaches, where the fleet file says so', async () => {
    const outcome = await applied('olaf', { initInterface: 'other 3' }, { toml: withoutTrial })
    expect(inWords(outcome)).toBe('succeeded')
    const wanted = await fleet.systemOf('olaf')
    expect(await fleet.machine('olaf').state()).toEqual({ booted: wanted, ...allAt(wanted) })
  })

  it('T23: into a system that reaches nobody ends in the old one: a boot arms the dead man again', async () => {
    const before = await fleet.machine('olaf').state()
    const boots = fleet.machine('olaf').boots
    await fleet.publish({ olaf: { initInterface: 'other 4', network: null } }, { toml: withoutTrial })
    const id = await fleet.apply('olaf')
    const outcome = await fleet.waitOutcome(id, 180_000)
    expect(inWords(outcome)).toBe('unconfirmed (unconfirmed)')
    await waitUntil('the old system runs', async () => {
      const now = await fleet.machine('olaf').state()
      return now.booted === before.booted && now.bootDefault === before.bootDefault ? true : undefined
    })
    expect(fleet.machine('olaf').boots).toBe(boots + 2)
    await atRest(fleet, 'olaf')
    expect(await fleet.machine('olaf').state()).toEqual(before)
  })
})
