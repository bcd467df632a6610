import { status } from '@grpc/grpc-js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { AgentService } from '../../../shared/gen/muster/v1/agent_pb.ts'
import { MachineState } from '../../../shared/gen/muster/v1/machine_pb.ts'
import { type Fleet, startFleet } from '../../support/fleet.ts'
import { addOperator, type Operator } from '../../support/operator.ts'
import { RawMachine } from '../../support/raw-machine.ts'
import {
  idOf,
  makeToken,
  shownMachine,
  untilActive,
  untilConsole,
  untilEvent,
  untilMachine,
  untilPending,
} from '../../support/shown.ts'
import { downloadSlowly, LARGE_FILES } from '../../support/slow-download.ts'

let fleet: Fleet
let operator: Operator
let treeLength: number

beforeAll(async () => {
  fleet = await startFleet()
  operator = await addOperator(fleet)
  const toml = '[hosts.evicted]\n[hosts.banned]\n[hosts.stays]\n'
  const { manifest } = await operator.publish({ toml, files: LARGE_FILES })
  treeLength = Number(manifest.manifest.treeLength)
})

afterAll(async () => {
  await fleet?.[Symbol.asyncDispose]()
  await operator?.[Symbol.asyncDispose]()
})

async function enrolled(host = ''): Promise<RawMachine> {
  const raw = await RawMachine.make(fleet)
  await raw.enrol({ token: await makeToken(fleet, { host }) })
  return raw
}

describe('evict', () => {
  it('ends the live session at once, and the node says why on its console', async () => {
    const agent = await fleet.addAgent('evicted', { token: await makeToken(fleet) })
    const { id } = await untilActive(fleet, agent)
    await fleet.api.evictMachine({ ref: id, reason: 'sold' })
    const shown = await shownMachine(fleet, id)
    expect(shown).toMatchObject({ state: MachineState.EVICTED, online: false })
    await untilConsole(agent, /evicted: this machine was evicted/)
    await untilEvent(fleet, id, 'evicted', /^sold$/)
    await untilEvent(fleet, id, 'refused', /^evicted/)
    // The token it came with was made before, and is used up besides.
    expect((await shownMachine(fleet, id))?.state).toBe(MachineState.EVICTED)

    await fleet.api.approveMachine({ ref: id })
    await untilActive(fleet, agent)
    await agent.kill('SIGTERM')
  })

  it('an evicted machine returns by a token made later, and by no token made before', async () => {
    const raw = await enrolled()
    const before = await makeToken(fleet)
    await fleet.api.evictMachine({ ref: raw.id })
    expect(await raw.enrol()).toMatchObject({ case: 'refusal', value: { class: 'evicted', retry: false } })
    expect(await raw.enrol({ token: before })).toMatchObject({ case: 'refusal', value: { class: 'evicted' } })
    const after = await makeToken(fleet)
    expect((await raw.enrol({ token: after })).case).toBe('certificate')
    await untilMachine(fleet, raw.id, 'enrolled again', ({ state }) => state === MachineState.ENROLLED)
  })

  it('a certificate from before the eviction opens nothing', async () => {
    const raw = await enrolled()
    await fleet.api.evictMachine({ ref: raw.id })
    using client = await raw.fleetClient(AgentService)
    await expect(client.getTrust({})).rejects.toThrow(/evicted, banned, or is not known/)
    await expect(client.renew({ publicKey: raw.key.publicKeyDer })).rejects.toThrow(/evicted/)
    await using session = await raw.session()
    expect(await session.untilEnded()).toMatch(/evicted/)
  })
})

describe('a download that runs', () => {
  it.each([
    ['evicted', 'evictMachine'],
    ['banned', 'banMachine'],
  ] as const)('ends at once when its machine is %s, and no other does', async (state, verb) => {
    const raw = await enrolled(state)
    using sentAway = await downloadSlowly(raw)
    using other = await downloadSlowly(await enrolled('stays'))
    await fleet.api[verb]({ ref: raw.id, reason: 'stolen' })
    const { bytes, end } = await sentAway.rest()
    expect(end).toMatchObject({
      code: status.PERMISSION_DENIED,
      message: `${state}: stolen`,
    })
    // What was on its way already.
    expect(bytes).toBeLessThan(treeLength / 2)
    expect(await other.rest()).toEqual({ bytes: treeLength, end: 'complete' })
    await fleet.api.evictMachine({ ref: 'stays' })
  })
})

describe('ban', () => {
  it('T19: a heartbeat after the ban is not heard, and revives nothing', async () => {
    const raw = await enrolled()
    await using session = await raw.session()
    await session.untilReceived('welcome')
    const seen = (await shownMachine(fleet, raw.id))?.lastSeen
    await fleet.api.banMachine({ ref: raw.id, reason: 'stolen' })
    session.beat()
    expect(await session.untilEnded()).toMatch(/banned/)
    expect(session.kinds()).not.toContain('heartbeatAck')
    const shown = await shownMachine(fleet, raw.id)
    expect(shown).toMatchObject({ state: MachineState.BANNED, online: false })
    expect(Number(shown?.lastSeen?.seconds)).toBeLessThanOrEqual(Number(seen?.seconds ?? 0n) + 1)
    await untilEvent(fleet, raw.id, 'banned', /^stolen$/)
  })

  it('N14: is for good: neither a hand, a token, an older certificate nor a restart of the coordinator undoes it', async () => {
    const raw = await enrolled()
    await fleet.api.banMachine({ ref: raw.id })
    await expect(fleet.api.approveMachine({ ref: raw.id })).rejects.toThrow(/banned, which is for good/)
    const token = await makeToken(fleet)
    expect(await raw.enrol({ token })).toMatchObject({ case: 'refusal', value: { class: 'banned' } })
    await fleet.coordinator?.kill('SIGKILL')
    await fleet.startCoordinator()
    expect(await raw.enrol({ token })).toMatchObject({ case: 'refusal', value: { class: 'banned' } })
    using client = await raw.fleetClient(AgentService)
    await expect(client.getTrust({})).rejects.toThrow(/banned/)
    const { tokens } = await fleet.api.listTokens({})
    expect(tokens.find(({ id }) => token.startsWith(id))).toMatchObject({ used: 0 })
  })

  it('a machine that never enrolled can be banned too', async () => {
    const raw = await RawMachine.make(fleet)
    expect((await raw.enrol()).case).toBe('waiting')
    await fleet.api.banMachine({ ref: raw.id })
    expect(await raw.enrol()).toMatchObject({ case: 'refusal', value: { class: 'banned' } })
  })
})

describe('reject', () => {
  it('turns a waiting machine away, visibly on both sides; it may be approved later', async () => {
    const agent = await fleet.addAgent('rejected')
    const { id } = await untilPending(fleet, agent)
    await fleet.api.rejectMachine({ ref: id, reason: 'not ours' })
    await untilConsole(agent, /rejected: an operator turned this machine away/)
    await untilEvent(fleet, id, 'rejected', /^not ours$/)
    await fleet.api.approveMachine({ ref: id })
    await untilActive(fleet, agent)
    await expect(fleet.api.rejectMachine({ ref: id })).rejects.toThrow(/active/)
    expect(await idOf(agent)).toBe(id)
    await agent.kill('SIGTERM')
  })

  it('names that mean no machine or several are refused, naming what would be right', async () => {
    await expect(fleet.api.banMachine({ ref: 'nobody' })).rejects.toThrow(/nobody/)
    await expect(fleet.api.banMachine({ ref: '' })).rejects.toThrow(/ref/)
  })
})
