import { cp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { writeMadeUpRoot } from '../../../scripts/made-up-root.ts'
import { AgentService } from '../../../shared/gen/muster/v1/agent_pb.ts'
import { randomId } from '../../../shared/ids.ts'
import { type AgentProcess, type Fleet, startFleet } from '../../support/fleet.ts'
import { addOperator, type Operator } from '../../support/operator.ts'
import { RawMachine } from '../../support/raw-machine.ts'
import {
  conditionsOf,
  idOf,
  makeToken,
  shownMachine,
  until,
  untilActive,
  untilCondition,
  untilConsole,
  untilEvent,
  untilMachine,
} from '../../support/shown.ts'

const APPLY_NEWEST = { case: 'apply' as const, value: {} }

let fleet: Fleet
let operator: Operator

beforeAll(async () => {
  fleet = await startFleet()
  operator = await addOperator(fleet)
  await operator.publish({ toml: '[hosts.olaf]\n[hosts.twin]\n' })
})

afterAll(async () => {
  await fleet?.[Symbol.asyncDispose]()
  await operator?.[Symbol.asyncDispose]()
})

/** Copies a machine's state as a disk image does, without what belongs to the running process. */
async function copyState(from: AgentProcess, to: AgentProcess): Promise<void> {
  await cp(from.stateDir, to.stateDir, {
    recursive: true,
    filter: source => !/\.sock$|lock/.test(source),
  })
}

async function held(ref: string, kind: string): Promise<void> {
  await expect(
    fleet.api.giveOrders({ refs: [ref], requestId: randomId(), action: APPLY_NEWEST }),
  ).rejects.toThrow(new RegExp(`held|${kind}`))
}

describe('T7: two machines with one key', () => {
  it('of two live ones with a copied state neither is acted on, both stay, and the operator is shown both', async () => {
    const true_ = await fleet.addAgent('original', { token: await makeToken(fleet, { host: 'twin' }) })
    const { id } = await untilActive(fleet, true_)
    const copy = await fleet.addAgent('copy', { start: false, token: await makeToken(fleet) })
    await copyState(true_, copy)
    copy.start()
    const shown = await untilCondition(fleet, id, 'clone')
    // By two sessions at once, and by what hardware the copy tells of: whichever came last.
    expect(conditionsOf(shown).join()).toMatch(
      /clone: (two machines are connected with this key|one key on two machines)/,
    )
    await untilEvent(fleet, id, 'clone', /from 127\.0\.0\.1 and 127\.0\.0\.1/)
    expect(true_.program?.running && copy.program?.running).toBe(true)
    await held('twin', 'clone')

    // The copy goes; the original is free once somebody looked.
    await copy.kill()
    await fleet.api.releaseMachine({ ref: id, reason: 'a copied disk, taken out' })
    await untilMachine(fleet, id, 'free', ({ conditions }) =>
      conditions.every(({ class: c }) => c !== 'clone'),
    )
    await untilEvent(fleet, id, 'released', /clone: a copied disk/)
    await true_.kill()
  })

  it('neither of two raw holders of a key is given the order that waits; after the release the one left is', async () => {
    const raw = await RawMachine.make(fleet)
    await raw.enrol({ token: await makeToken(fleet, { host: 'olaf' }) })
    await using first = await raw.session()
    await first.untilReceived('welcome')
    await using second = await raw.session()
    for (const session of [first, second]) await session.untilReceived('challenge')
    first.beat()
    second.beat()
    await untilCondition(fleet, raw.id, 'clone')
    await held('olaf', 'clone')
    using client = await raw.fleetClient(AgentService)
    await expect(client.renew({ publicKey: raw.key.publicKeyDer })).rejects.toThrow(/clone/)
    const answer = await raw.enrol()
    expect(answer).toMatchObject({ case: 'refusal', value: { class: 'conflict' } })

    await fleet.api.releaseMachine({ ref: raw.id })
    const { operations } = await fleet.api.giveOrders({
      refs: ['olaf'],
      requestId: randomId(),
      action: APPLY_NEWEST,
    })
    expect(operations).toHaveLength(1)
    // Released, but two holders are still connected: the order waits until there is one.
    first.beat()
    second.beat()
    await until('both beats answered', () =>
      [first, second].every(session => session.kinds().filter(kind => kind === 'heartbeatAck').length >= 2)
        ? true
        : undefined,
    )
    expect([...first.kinds(), ...second.kinds()]).not.toContain('order')
    await second[Symbol.asyncDispose]()
    const beating = setInterval(() => first.beat(), 500)
    await first.untilReceived('order').finally(() => clearInterval(beating))
  })

  it('a dead connection that does not answer is replaced by the machine that comes back', async () => {
    const raw = await RawMachine.make(fleet)
    await raw.enrol({ token: await makeToken(fleet) })
    await using dead = await raw.session()
    await dead.untilReceived('welcome')
    await using back = await raw.session()
    await back.untilReceived('challenge')
    const beating = setInterval(() => back.beat(), 200)
    expect(await dead.untilEnded()).toMatch(/newer session took the place|silent/)
    clearInterval(beating)
    const shown = await shownMachine(fleet, raw.id)
    expect(shown?.online).toBe(true)
    expect(shown?.conditions.map(({ class: kind }) => kind)).not.toContain('clone')
  })

  it('a key whose serial and UUID both changed is a clone; it is held until released', async () => {
    const agent = await fleet.addAgent('moved', { token: await makeToken(fleet) })
    const { id } = await untilActive(fleet, agent)
    await agent.kill('SIGTERM')
    await writeMadeUpRoot(join(agent.dir, 'hardware'), { seed: 'another box' })
    agent.start()
    const shown = await untilCondition(fleet, id, 'clone')
    expect(conditionsOf(shown).join()).toMatch(/one key on two machines: serial \w+ became \w+/)
    await fleet.api.releaseMachine({ ref: id, reason: 'the board was changed' })
    await untilMachine(fleet, id, 'free', ({ conditions }) => conditions.length === 0)
    await agent.kill('SIGTERM')
  })

  it('one changed part is only shown', async () => {
    const agent = await fleet.addAgent('new-board', {
      token: await makeToken(fleet),
      hardware: { serial: 'NB1' },
    })
    const { id } = await untilActive(fleet, agent)
    await agent.kill('SIGTERM')
    await writeMadeUpRoot(join(agent.dir, 'hardware'), { seed: 'new-board', serial: 'NB2' })
    agent.start()
    const shown = await untilCondition(fleet, id, 'similar')
    expect(conditionsOf(shown).join()).toMatch(/its serial changed from NB1 to NB2/)
    expect(conditionsOf(shown).join()).not.toMatch(/clone/)
    await agent.kill('SIGTERM')
  })
})

describe('machines that claim the same hardware', () => {
  it('another key with the same serial and disks is a collision: neither is acted on, and both are shown', async () => {
    const hardware = { seed: 'one-box' }
    const first = await fleet.addAgent('first-key', { token: await makeToken(fleet), hardware })
    const { id } = await untilActive(fleet, first)
    const second = await fleet.addAgent('second-key', { token: await makeToken(fleet), hardware })
    await untilConsole(second, /conflict: another key claims the same serial/)
    const other = await idOf(second)
    await untilCondition(fleet, id, 'collision')
    await untilCondition(fleet, other, 'collision')
    await untilEvent(fleet, other, 'collision')
    await held(id, 'collision')
    await expect(fleet.api.approveMachine({ ref: other })).rejects.toThrow(/collision/)

    // The old one was reinstalled: it is sent away, and its rival is free by that.
    await fleet.api.evictMachine({ ref: id, reason: 'reinstalled' })
    await untilEvent(fleet, other, 'released', /was sent away/)
    expect((await untilActive(fleet, second)).id).toBe(other)
    await Promise.all([first.kill(), second.kill()])
  })

  it('peers.md 8: equal UUIDs alone are shown and hinder nobody', async () => {
    const uuid = '03000200-0400-0500-0006-000700080009'
    const agents = await Promise.all(
      ['cheap-a', 'cheap-b'].map(async name =>
        fleet.addAgent(name, { token: await makeToken(fleet), hardware: { uuid } }),
      ),
    )
    for (const agent of agents) {
      const { id } = await untilActive(fleet, agent)
      const shown = await untilMachine(fleet, id, 'facts known', ({ serial }) => serial !== '')
      expect(conditionsOf(shown).join()).not.toMatch(/clone|collision/)
    }
    await Promise.all(agents.map(agent => agent.kill()))
  })

  it('T13: absent serials and disks never match: two machines without any are two machines', async () => {
    for (const name of ['no-serial-a', 'no-serial-b']) {
      const raw = await RawMachine.make(fleet)
      const facts = { system: { hostname: name, serial: '', uuid: '' } }
      expect((await raw.enrol({ token: await makeToken(fleet), facts })).case).toBe('certificate')
      expect((await shownMachine(fleet, raw.id))?.conditions).toEqual([])
    }
  })
})

describe('T13: a restored disk', () => {
  it('a count of boots that goes back is held and shown, stays so over restarts, and ends by a person’s word', async () => {
    const agent = await fleet.addAgent('restored', { token: await makeToken(fleet) })
    const { id } = await untilActive(fleet, agent)
    await agent.kill('SIGTERM')
    const image = join(agent.dir, 'image')
    await cp(agent.stateDir, image, { recursive: true })
    // The machine booted four times more, then its disk was restored.
    const file = join(agent.stateDir, 'state.json')
    const state: { bootCount: number } = JSON.parse(await readFile(file, 'utf8'))
    await writeFile(file, JSON.stringify({ ...state, bootCount: state.bootCount + 4 }))
    agent.start()
    await untilActive(fleet, agent)
    await agent.kill('SIGTERM')
    await rm(agent.stateDir, { recursive: true })
    await cp(image, agent.stateDir, { recursive: true })
    agent.start()
    const shown = await untilCondition(fleet, id, 'went-back')
    expect(conditionsOf(shown).join()).toMatch(/its count of boots went back from 5 to 1/)
    await untilEvent(fleet, id, 'went-back', /count of boots/)
    await held(id, 'went-back')
    await agent.kill('SIGTERM')
    agent.start()
    await untilActive(fleet, agent)
    expect(conditionsOf((await shownMachine(fleet, id))!).join()).toMatch(/went-back/)
    await fleet.api.releaseMachine({ ref: id, reason: 'restored from Monday' })
    await untilMachine(fleet, id, 'free', ({ conditions }) => conditions.length === 0)
    await agent.kill('SIGTERM')
  })

  it('a journal, a highest revision or a manifest that goes back is held too', async () => {
    const sayings = [
      { journalSequence: 3n, reason: /journal went back from record 9 to 3/ },
      { highestRevision: 1n, reason: /highest revision it accepted went back from 2 to 1/ },
      { highestDigest: 'b'.repeat(64), reason: /revision 2 that it accepted is another one/ },
      { bootId: 'boot-2', reason: /booted anew, but its count of boots stayed at 7/ },
    ]
    for (const { reason, ...change } of sayings) {
      const raw = await RawMachine.make(fleet)
      await raw.enrol({ token: await makeToken(fleet) })
      const said = { bootCount: 7n, journalSequence: 9n, highestRevision: 2n, highestDigest: 'a'.repeat(64) }
      const before = await raw.session(said)
      await before.untilReceived('welcome')
      await before[Symbol.asyncDispose]()
      await using after = await raw.session({ ...said, ...change })
      await after.untilReceived('welcome')
      expect(conditionsOf(await untilCondition(fleet, raw.id, 'went-back')).join()).toMatch(reason)
    }
  })
})
