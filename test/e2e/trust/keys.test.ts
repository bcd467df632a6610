import { readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { credentials } from '@grpc/grpc-js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { generateSigningKey } from '../../../shared/envelope/keys.ts'
import { LocalService } from '../../../shared/gen/muster/v1/local_pb.ts'
import { createClient } from '../../../shared/rpc/client.ts'
import { type AgentProcess, type Fleet, startFleet } from '../../support/fleet.ts'
import { addOperator, type Operator } from '../../support/operator.ts'
import {
  makeToken,
  shownMachine,
  until,
  untilActive,
  untilCondition,
  untilEvent,
  untilMachine,
} from '../../support/shown.ts'

let fleet: Fleet
let operator: Operator

beforeAll(async () => {
  fleet = await startFleet()
  operator = await addOperator(fleet)
})

afterAll(async () => {
  await fleet?.[Symbol.asyncDispose]()
  await operator?.[Symbol.asyncDispose]()
})

async function untilFollows(id: string, number: number): Promise<void> {
  await untilMachine(fleet, id, `trust set ${number}`, ({ trust }) => trust?.number === BigInt(number))
}

const local = (agent: AgentProcess) =>
  createClient(LocalService, `unix:${agent.socket}`, credentials.createInsecure())

describe('signing keys change without visiting a machine', () => {
  it('a set signed by the old key reaches connected nodes at once, and one that was off through two of them later', async () => {
    const [on, off] = await Promise.all(
      ['stays-on', 'goes-off'].map(async name => fleet.addAgent(name, { token: await makeToken(fleet) })),
    )
    const { id } = await untilActive(fleet, on!)
    const away = await untilActive(fleet, off!)
    await untilFollows(id, 1)
    await untilFollows(away.id, 1)
    await off!.kill('SIGTERM')

    operator.rotateKey()
    await operator.giveTrust()
    await untilFollows(id, 2)
    operator.rotateKey()
    await operator.giveTrust()
    await untilFollows(id, 3)
    expect((await shownMachine(fleet, id))?.trust?.digest).toBe(operator.trustPin)
    await untilEvent(fleet, id, 'trust', /follows trust set 3/)

    off!.start()
    await untilFollows(away.id, 3)
    expect(on!.programs).toHaveLength(1)
    await off!.kill('SIGTERM')
  })

  it('a machine that was given an older pin walks up from it when it enrols', async () => {
    const [first] = operator.sets
    const agent = await fleet.addAgent('old-stick', { config: { trustPin: first!.trust.digest } })
    const { machine } = await local(agent)
      .getStatus({})
      .catch(
        async () =>
          await until('status', () =>
            local(agent)
              .getStatus({})
              .catch(() => undefined),
          ),
      )
    await untilMachine(fleet, machine, 'pending', () => true)
    await fleet.api.approveMachine({ ref: machine })
    await untilActive(fleet, agent)
    await untilFollows(machine, operator.trust.trust.number)
    expect((await shownMachine(fleet, machine))?.trust?.firstUse).toBe(false)
    await agent.kill('SIGTERM')
  })

  it('T5: a set by strangers, an altered set, and one that goes back are refused; nothing changes', async () => {
    const before = operator.trust.trust.number
    await using stranger = await addOperator(fleet, { fleetId: operator.fleetId, giveTrust: false })
    while (stranger.trust.trust.number <= before) stranger.rotateKey()
    await expect(stranger.giveTrust()).rejects.toThrow(/another one is known here under this number/)
    const [successor] = stranger.sets.slice(-1)
    await expect(fleet.api.setFleetTrust({ trust: { envelopes: [successor!.envelope] } })).rejects.toThrow(
      /needs 1 of the keys of set 3 or one of its recovery keys/,
    )
    await using foreign = await addOperator(fleet, { giveTrust: false })
    await expect(foreign.giveTrust()).rejects.toThrow(/belongs to another fleet/)
    const forged = operator.trust.envelope
    const payload = Buffer.from(forged.payload)
    payload[payload.length - 1]! ^= 1
    await expect(
      fleet.api.setFleetTrust({
        trust: { envelopes: [...operator.chain().envelopes.slice(0, -1), { ...forged, payload }] },
      }),
    ).rejects.toThrow()
    // The old chain once more is neither an error nor a change.
    const old = operator.chain().envelopes.slice(0, 1)
    await fleet.api.setFleetTrust({ trust: { envelopes: old } }).catch(() => {})
    expect((await fleet.api.getFleet({})).trustNumber).toBe(BigInt(before))
  })

  it('a key that was given up signs no revision any more', async () => {
    const old = operator.keys
    operator.rotateKey()
    await operator.giveTrust()
    for (const signers of [old, [generateSigningKey()]])
      await expect(operator.publish({ toml: '[hosts.olaf]\n', signers })).rejects.toThrow(/signature/)
    expect((await operator.publish({ toml: '[hosts.olaf]\n' })).number).toBe(1)
  })

  it('a revision that only given-up keys signed is named by health, with the cure, until it is signed anew', async () => {
    const untrusted = async () =>
      (await fleet.api.getHealth({})).problems.filter(problem => problem.class === 'revision-untrusted')
    expect((await fleet.api.getFleet({})).revision).toBe(1n)
    expect(await untrusted()).toEqual([])
    operator.rotateKey()
    await operator.giveTrust()
    const { number } = operator.trust.trust
    expect(await untrusted()).toMatchObject([
      { reason: expect.stringContaining(`trust set ${number} refuse`), remedy: 'muster publish --renew' },
    ])
    await operator.publish({ toml: '[hosts.olaf]\n', renew: true })
    expect(await untrusted()).toEqual([])
  })

  it('a set that travels in a manifest counts for the coordinator and its machines', async () => {
    const agent = await fleet.addAgent('by-manifest', { token: await makeToken(fleet) })
    const { id } = await untilActive(fleet, agent)
    const signers = operator.keys
    operator.rotateKey()
    const { number } = operator.trust.trust
    // The keys in force sign the revision that brings their successors.
    await expect(operator.publish({ toml: '[hosts.olaf]\n[hosts.nas]\n' })).rejects.toThrow(/0 good ones/)
    await operator.publish({ toml: '[hosts.olaf]\n[hosts.nas]\n', signers })
    expect((await fleet.api.getFleet({})).trustNumber).toBe(BigInt(number))
    await untilFollows(id, number)
    await agent.kill('SIGTERM')
  })

  it('T11: an agent that lost its trust set says so and stops; it takes no other in its place', async () => {
    const agent = await fleet.addAgent('lost-trust', { token: await makeToken(fleet) })
    await untilActive(fleet, agent)
    await agent.kill('SIGTERM')
    await rm(join(agent.stateDir, 'trust.json'))
    const { code, stdout, stderr } = await agent.start().finished
    expect(code).not.toBe(0)
    expect(`${stdout}${stderr}`).toMatch(/trust\.json: is missing, but this machine held a trust set/)
  })

  it('T5: an agent put back to an older trust set by hand follows upward again and accepts no way down', async () => {
    const agent = await fleet.addAgent('set-back', { token: await makeToken(fleet) })
    const { id } = await untilActive(fleet, agent)
    await untilFollows(id, operator.trust.trust.number)
    using socket = local(agent)
    // Root on the node may do it; the next notice leads up again, since the chain proves itself.
    const { number } = await socket.setTrust({ trust: { envelopes: [operator.sets[0]!.envelope] } })
    expect(number).toBe(1n)
    await untilEvent(fleet, id, 'trust-set-by-hand', /set by hand on this machine/)
    await untilFollows(id, operator.trust.trust.number)
    await agent.kill('SIGTERM')
  })
})

describe('without a trust pin', () => {
  it('the first set offered is taken once, shown as such, and stays so until an operator confirms it', async () => {
    const agent = await fleet.addAgent('first-use')
    using socket = local(agent)
    const { machine } = await until('status', () => socket.getStatus({}).catch(() => undefined))
    await untilMachine(fleet, machine, 'pending', () => true)
    await fleet.api.approveMachine({ ref: machine })
    await untilActive(fleet, agent)
    const shown = await untilCondition(fleet, machine, 'trust-first-use')
    expect(shown.trust).toMatchObject({ firstUse: true, digest: operator.trustPin })
    expect(await socket.getStatus({})).toMatchObject({ trustFirstUse: true })
    // It outlives a restart.
    await agent.kill('SIGTERM')
    agent.start()
    await untilActive(fleet, agent)
    await untilCondition(fleet, machine, 'trust-first-use')

    expect(await fleet.api.confirmTrust({ ref: machine })).toMatchObject({ confirmed: 1 })
    await untilMachine(fleet, machine, 'confirmed', ({ trust }) => trust?.firstUse === false)
    await untilEvent(fleet, machine, 'trust-confirmed')
    await until('the node knows', async () =>
      (await socket.getStatus({}).catch(() => undefined))?.trustFirstUse === false ? true : undefined,
    )
    await agent.kill('SIGTERM')
  })
})

describe('the last resort', () => {
  it('when all keys are lost, root on a node gives it another trust set by its own socket', async () => {
    const agent = await fleet.addAgent('last-resort', { token: await makeToken(fleet) })
    const { id } = await untilActive(fleet, agent)
    await using anew = await addOperator(fleet, { fleetId: operator.fleetId, giveTrust: false })
    using socket = local(agent)
    await expect(socket.setTrust({})).rejects.toThrow(/trust/)
    const answer = await socket.setTrust({ trust: anew.chain() })
    expect(answer.digest).toBe(anew.trustPin)
    await untilMachine(fleet, id, 'the other set', ({ trust }) => trust?.digest === anew.trustPin)
    await untilEvent(fleet, id, 'trust-set-by-hand', new RegExp(anew.trustPin))
    const { mode } = await stat(agent.socket)
    expect(mode & 0o077).toBe(0)
    const held: { digest: string } = JSON.parse(await readFile(join(agent.stateDir, 'trust.json'), 'utf8'))
    expect(held.digest).toBe(anew.trustPin)
    // It follows the fleet's own sets no more, and says so.
    await untilEvent(fleet, id, 'trust', /^fork: .*another one is known here/)
    await agent.kill('SIGTERM')
  })
})
