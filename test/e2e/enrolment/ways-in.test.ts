import { fromBinary } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { FactsSchema } from '../../../shared/gen/muster/v1/facts_pb.ts'
import { BoundBy, MachineState } from '../../../shared/gen/muster/v1/machine_pb.ts'
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

let fleet: Fleet
let operator: Operator

beforeAll(async () => {
  fleet = await startFleet()
  operator = await addOperator(fleet)
  await operator.publish({
    toml: `
[groups.edge]
admit = "facts.system.product == 'N100'"
name = "edge-{serial}"

[clusters.main]
distribution = "k3s"

[groups.brain]
admit = "facts.system.product == 'BRAIN'"
name = "brain-{serial}"
role = "worker"
cluster = "main"

[hosts.olaf]
disk = { serial = "OLAFDISK" }

[hosts.first]
role = "server"
cluster = "main"

[hosts.loose]
`,
    // The check of fleet.toml refuses such a group; a coordinator must not rely on who published.
    change: targets =>
      targets.map(target => (target.group === 'brain' ? { ...target, role: 'server' } : target)),
  })
})

afterAll(async () => {
  await fleet?.[Symbol.asyncDispose]()
  await operator?.[Symbol.asyncDispose]()
})

describe('ways into the fleet', () => {
  it('a token lets a machine in, gives it its labels, and is counted', async () => {
    const token = await makeToken(fleet, { labels: { rack: 'a' } })
    const agent = await fleet.addAgent('by-token', { token })
    const machine = await untilActive(fleet, agent)
    expect(machine.admittedBy).toBe(`token ${token.split('.')[0]}`)
    expect(machine.labels).toEqual({ rack: 'a' })
    expect(machine.simulated).toBe(true)
    const { tokens } = await fleet.api.listTokens({})
    const info = tokens.find(({ id }) => id === token.split('.')[0])
    expect(info).toMatchObject({ used: 1, uses: 1, machines: [machine.id] })
    await untilEvent(fleet, machine.id, 'enrolled', /let in by token/)
    await untilEvent(fleet, machine.id, 'active', /mutual TLS/)
    // A coordinator that is named by its address is no reason for a warning of Node's.
    expect(agent.programs.map(({ stderr }) => stderr)).toEqual([''])
  })

  it('a machine without any right waits: the operator sees its facts, its console the command that lets it in', async () => {
    const agent = await fleet.addAgent('by-hand', { hardware: { serial: 'BYHAND1', product: 'Desk' } })
    const waiting = await untilPending(fleet, agent)
    expect(waiting).toMatchObject({ product: 'Desk', serial: 'BYHAND1', host: '', online: false })
    expect(waiting.conditions.map(({ class: kind }) => kind)).toContain('waiting')
    const { machines } = await fleet.api.listMachines({ states: [MachineState.PENDING], withFacts: true })
    const facts = machines.find(({ id }) => id === waiting.id)?.facts
    expect(fromBinary(FactsSchema, facts ?? new Uint8Array()).disks).toHaveLength(1)
    const console = await untilConsole(agent, /waits to be let into the fleet/)
    expect(console).toContain(waiting.id)
    expect(console).toContain(`127.0.0.1:${fleet.enrolmentPort}`)
    expect(console).toContain(`muster approve ${waiting.id.slice(0, 12)}`)

    await fleet.api.approveMachine({ ref: waiting.id.slice(0, 12), host: 'loose' })
    const machine = await untilActive(fleet, agent)
    await untilConsole(agent, /this machine is enrolled/)
    expect(machine).toMatchObject({ admittedBy: 'operator local', host: 'loose', boundBy: BoundBy.HAND })
    await untilEvent(fleet, machine.id, 'approved', /let in by operator local/)
  })

  it('a rule of the published revision lets a machine in and names it, without anybody touching anything', async () => {
    const agent = await fleet.addAgent('by-rule', { hardware: { product: 'N100', serial: 'E77' } })
    const machine = await untilActive(fleet, agent)
    expect(machine).toMatchObject({
      host: 'edge-e77',
      group: 'edge',
      boundBy: BoundBy.RULE,
      admittedBy: 'rule edge',
    })
  })

  it('a rule never lets in a server, whatever its facts claim', async () => {
    const agent = await fleet.addAgent('a-server', { hardware: { product: 'BRAIN', serial: 'B1' } })
    const waiting = await untilPending(fleet, agent)
    await untilConsole(agent, /a rule never admits a server/)
    expect(waiting.admittedBy).toBe('')
  })

  it('two machines that a rule gives one name are not both let in', async () => {
    const agent = await fleet.addAgent('same-name', { hardware: { product: 'N100', serial: 'e77' } })
    await untilPending(fleet, agent)
    await untilConsole(agent, /edge-e77/)
  })

  it('hardware in the file binds a machine to its host, and still needs a token or a hand', async () => {
    const agent = await fleet.addAgent('by-hardware', {
      hardware: {
        disks: [{ name: 'sda', serial: 'OLAFDISK', model: 'M', bytes: 1e12, transport: 'sata' }],
      },
    })
    const waiting = await untilPending(fleet, agent)
    expect(waiting.conditions.map(({ reason }) => reason).join()).toContain('it would be host olaf')
    await fleet.api.approveMachine({ ref: waiting.id })
    const machine = await untilActive(fleet, agent)
    expect(machine).toMatchObject({ host: 'olaf', boundBy: BoundBy.HARDWARE })
  })

  it('a key in the file binds before everything else', async () => {
    const agent = await fleet.addAgent('by-key', {
      hardware: { product: 'N100', serial: 'KEY1' },
      start: false,
    })
    agent.start()
    const id = await idOf(agent)
    await untilMachine(fleet, id, 'host by rule first', ({ host }) => host === 'edge-key1')
    await operator.publish({
      toml: `
[groups.edge]
admit = "facts.system.product == 'N100'"
name = "edge-{serial}"

[hosts.keyed]
machine = "${id}"

[hosts.olaf]
disk = { serial = "OLAFDISK" }

[hosts.loose]
`,
    })
    await untilMachine(
      fleet,
      id,
      'host by key',
      ({ host, boundBy }) => host === 'keyed' && boundBy === BoundBy.KEY,
    )
  })

  it('a token for one host binds it; a second machine cannot become that host', async () => {
    await expect(makeToken(fleet, { host: 'loose' })).rejects.toThrow(/loose is machine/)
    await expect(makeToken(fleet, { host: 'olaf', uses: 2 })).rejects.toThrow(/one use/)
  })

  it('T8: a token gives no name: whoever holds one is known by its key alone', async () => {
    const token = await makeToken(fleet, { uses: 2 })
    const raw = await RawMachine.make(fleet)
    const facts = {
      system: { hostname: 'olaf', serial: 'IMPOSTOR', uuid: '00000000-0000-4000-8000-0000000000aa' },
      disks: [],
    }
    expect((await raw.enrol({ token, facts })).case).toBe('certificate')
    const shown = await shownMachine(fleet, raw.id)
    expect(shown?.host).toBe('')
    expect((await shownMachine(fleet, 'olaf'))?.id).not.toBe(raw.id)
  })

  it('a machine that was let in but never came over mutual TLS is shown as stuck', async () => {
    await using slow = await startFleet({ stuckMinutes: 0.01 })
    const raw = await RawMachine.make(slow)
    await raw.enrol({ token: await makeToken(slow) })
    const shown = await untilMachine(slow, raw.id, 'stuck', ({ conditions }) =>
      conditions.some(({ class: kind }) => kind === 'stuck'),
    )
    expect(shown.state).toBe(MachineState.ENROLLED)
    expect(shown.conditions.find(({ class: kind }) => kind === 'stuck')?.reason).toMatch(/never seen/)
  })
})
