import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import { type AgentProgram, buildAgentProgram } from './agent-program.ts'
import { type LabFleet, startLabFleet } from './lab-fleet.ts'
import { service } from './toplevel/switching.ts'
import { SET_UP_MS, whyNoLab } from './why-not.ts'

const why = whyNoLab()
let fleet: LabFleet
let newer: AgentProgram

beforeAll(async () => {
  if (why !== undefined) return
  newer = await buildAgentProgram({ version: '0.1.99' })
  fleet = await startLabFleet({ machines: ['olaf', 'nils'], moreAgents: [newer] })
}, SET_UP_MS)
afterAll(async () => await fleet?.[Symbol.asyncDispose]())

const allAt = (system: string) => ({ current: system, profile: system, bootDefault: system })

describe.skipIf(why !== undefined)(`a fleet of lab machines ${why ?? ''}`, () => {
  it('is installed, enrolled and bound when it is there', async () => {
    for (const host of ['olaf', 'nils']) {
      const machine = fleet.machine(host)
      const { booted, ...rest } = await machine.state()
      expect(rest).toEqual(allAt(booted))
      expect(booted).toContain(`-nixos-system-${host}-`)
      expect((await fleet.shown(host))?.online).toBe(true)
      expect(await machine.failedUnits()).toEqual([])
    }
  })

  it('builds and switches to what is published, each host on its machine', async () => {
    await fleet.publish({ olaf: { units: { 'added.service': service('1') } } })
    const outcome = await fleet.waitOutcome(await fleet.apply('olaf'))
    expect(outcome).toMatchObject({ class: OutcomeClass.SUCCEEDED, simulated: [] })
    const wanted = await fleet.systemOf('olaf')
    expect(outcome.storePath).toBe(wanted)
    expect(await fleet.machine('olaf').state()).toMatchObject(allAt(wanted))
    expect((await fleet.machine('olaf').ok(['systemctl', 'is-active', 'added.service'])).trim()).toBe(
      'active',
    )
    const nils = await fleet.machine('nils').state()
    expect(nils).toEqual({ booted: nils.booted, ...allAt(nils.booted) })
  })

  it('comes back after a reboot and after a power cut, into what was promoted', async () => {
    const olaf = fleet.machine('olaf')
    const { bootDefault } = await olaf.state()
    await olaf.reboot()
    expect(await olaf.state()).toEqual({ booted: bootDefault, ...allAt(bootDefault) })
    await fleet.untilOnline('olaf')
    await olaf.powerCut()
    await fleet.untilOffline('olaf')
    await olaf.boot()
    await fleet.untilOnline('olaf')
  })

  it('shows a machine without its cable as offline, and as online again with it', async () => {
    await fleet.machine('nils').cutNetwork()
    await fleet.untilOffline('nils')
    await fleet.machine('nils').healNetwork()
    await fleet.untilOnline('nils')
  })

  it('T36, N1: brings another build of the agent with a system, which then runs, at another store path', async () => {
    await fleet.publish({ nils: { agent: fleet.agentOf(newer) } })
    const outcome = await fleet.waitOutcome(await fleet.apply('nils'))
    expect(outcome.class).toBe(OutcomeClass.SUCCEEDED)
    const nils = fleet.machine('nils')
    expect(await nils.ok(['systemctl', 'show', '-p', 'ExecStart', 'muster-agent'])).toContain(newer.path)
    await fleet.untilShown('nils', 'runs the newer agent', ({ online, agentVersion }) => {
      return online && agentVersion === newer.version
    })
  })
})
