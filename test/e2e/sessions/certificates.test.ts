import { timestampDate } from '@bufbuild/protobuf/wkt'
import { status } from '@grpc/grpc-js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { AgentService } from '../../../shared/gen/muster/v1/agent_pb.ts'
import { MachineState } from '../../../shared/gen/muster/v1/machine_pb.ts'
import { type Fleet, startFleet } from '../../support/fleet.ts'
import { addOperator } from '../../support/operator.ts'
import { RawMachine } from '../../support/raw-machine.ts'
import {
  events,
  makeToken,
  shownMachine,
  until,
  untilActive,
  untilConsole,
  untilEvent,
  untilMachine,
} from '../../support/shown.ts'
import { downloadSlowly, LARGE_FILES } from '../../support/slow-download.ts'

let fleet: Fleet
const LIFE_MS = 5_000

beforeAll(async () => {
  fleet = await startFleet({ machineCertificateDays: LIFE_MS / 86_400_000 })
})

afterAll(() => fleet?.[Symbol.asyncDispose]())

const expiryOf = async (id: string) => {
  const expires = (await shownMachine(fleet, id))?.certificateExpires
  return expires ? timestampDate(expires).getTime() : 0
}

/** Waits until a machine's certificate has run out. */
async function untilExpired(id: string): Promise<void> {
  const ends = await expiryOf(id)
  await until('the end of the certificate', () => (Date.now() > ends + 1_000 ? true : undefined))
}

describe('certificates that last seconds', () => {
  it('are renewed before their end, over and over, and neither side starts anew', async () => {
    const agent = await fleet.addAgent('renews', { token: await makeToken(fleet) })
    const { id } = await untilActive(fleet, agent)
    const first = await expiryOf(id)
    await until('two renewals', async () =>
      (await expiryOf(id)) >= first + 1.2 * LIFE_MS ? true : undefined,
    )
    await until('a time after the first end', () => (Date.now() > first + 1_000 ? true : undefined))
    await untilActive(fleet, agent)
    expect(agent.programs).toHaveLength(1)
    expect(agent.program?.running && fleet.coordinator?.running).toBe(true)
    const all = await events(fleet, id)
    expect(all.filter(({ class: kind }) => kind === 'enrolled')).toHaveLength(1)
    expect(all.filter(({ class: kind }) => kind === 'refused')).toEqual([])
    await agent.kill('SIGTERM')
  })

  it('N19: a node that was off for longer comes back with its old key, without a token or a hand', async () => {
    const token = await makeToken(fleet)
    const agent = await fleet.addAgent('was-off', { token })
    const { id } = await untilActive(fleet, agent)
    await agent.kill('SIGTERM')
    await untilExpired(id)
    const shown = await shownMachine(fleet, id)
    expect(shown?.conditions.map(({ class: kind, reason }) => `${kind} ${reason}`).join()).toMatch(
      /certificate expired at/,
    )
    agent.start()
    await untilActive(fleet, agent)
    await untilEvent(fleet, id, 'returned', /old key/)
    const { tokens } = await fleet.api.listTokens({})
    expect(tokens.find(token_ => token.startsWith(token_.id))).toMatchObject({ used: 1 })
    await agent.kill('SIGTERM')
  })

  it.each(['evictMachine', 'banMachine'] as const)(
    'N19: after %s a node that was off does not come back by its key',
    async verb => {
      const agent = await fleet.addAgent(`off-${verb}`, { token: await makeToken(fleet) })
      const { id } = await untilActive(fleet, agent)
      await agent.kill('SIGTERM')
      await fleet.api[verb]({ ref: id })
      await new Promise(resolve => setTimeout(resolve, LIFE_MS))
      agent.start()
      await untilConsole(agent, /evicted: |banned: /)
      expect([MachineState.EVICTED, MachineState.BANNED]).toContain((await shownMachine(fleet, id))?.state)
      await agent.kill('SIGTERM')
    },
  )

  it('an expired certificate opens nothing on the fleet listener, and the refusal is in the log', async () => {
    const raw = await RawMachine.make(fleet)
    await raw.enrol({ token: await makeToken(fleet) })
    await untilExpired(raw.id)
    using client = await raw.fleetClient(AgentService)
    await expect(client.getTrust({}, { deadlineMs: 3_000 })).rejects.toThrow()
    await until('the log', () => fleet.coordinator?.log().find(({ reason }) => reason === 'CERT_HAS_EXPIRED'))
  })

  it('a live session ends with its certificate', async () => {
    const raw = await RawMachine.make(fleet)
    await raw.enrol({ token: await makeToken(fleet) })
    await using session = await raw.session()
    await session.untilReceived('welcome')
    const beating = setInterval(() => session.beat(), 300)
    expect(await session.untilEnded().finally(() => clearInterval(beating))).toMatch(/certificate has ended/)
    await untilMachine(fleet, raw.id, 'offline', ({ online }) => !online)
  })

  it('so does a download', async () => {
    await using operator = await addOperator(fleet)
    const { manifest } = await operator.publish({ toml: '[hosts.slow]\n', files: LARGE_FILES })
    const raw = await RawMachine.make(fleet)
    await raw.enrol({ token: await makeToken(fleet, { host: 'slow' }) })
    using download = await downloadSlowly(raw)
    await untilExpired(raw.id)
    const { bytes, end } = await download.rest()
    expect(end).toMatchObject({
      code: status.UNAUTHENTICATED,
      message: expect.stringContaining('certificate has ended'),
    })
    expect(bytes).toBeLessThan(Number(manifest.manifest.treeLength) / 2)
  })

  it('a renewal asks for no other key than that of the certificate in use', async () => {
    const raw = await RawMachine.make(fleet)
    const other = await RawMachine.make(fleet)
    await raw.enrol({ token: await makeToken(fleet) })
    using client = await raw.fleetClient(AgentService)
    await expect(client.renew({ publicKey: other.key.publicKeyDer })).rejects.toThrow(
      /is not the key of the certificate/,
    )
    expect((await client.renew({ publicKey: raw.key.publicKeyDer })).chainPem).toContain('BEGIN CERTIFICATE')
    expect(await shownMachine(fleet, other.id)).toBeUndefined()
  })
})
