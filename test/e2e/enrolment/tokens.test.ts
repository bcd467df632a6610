import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { EnrolResponse } from '../../../shared/gen/muster/v1/enrolment_pb.ts'
import { keyPool } from '../../bench/key-pool.ts'
import { type Fleet, startFleet } from '../../support/fleet.ts'
import { RawMachine } from '../../support/raw-machine.ts'
import {
  idOf,
  makeToken,
  shownMachine,
  until,
  untilConsole,
  untilEvent,
  untilPending,
} from '../../support/shown.ts'

let fleet: Fleet
const made: string[] = []

const token = async (...options: Parameters<typeof makeToken> extends [unknown, ...infer R] ? R : never) => {
  const text = await makeToken(fleet, ...options)
  made.push(text)
  return text
}

beforeAll(async () => {
  fleet = await startFleet({ strangersPerSecond: 5_000 })
})

afterAll(() => fleet?.[Symbol.asyncDispose]())

function refusalOf(answer: EnrolResponse['answer']) {
  if (answer.case !== 'refusal') throw new Error(`answered ${answer.case}`)
  return answer.value
}

describe('tokens that are worth nothing', () => {
  it('an expired token is refused as such and shown to the operator', async () => {
    const text = await token({ lifetimeMs: 1 })
    const raw = await RawMachine.make(fleet)
    const refusal = refusalOf(await raw.enrol({ token: text }))
    expect(refusal).toMatchObject({ class: 'token-expired', retry: false })
    await untilEvent(
      fleet,
      raw.id,
      'refused',
      /^token-expired: token \w+ expired at .* \(from 127\.0\.0\.1\)/,
    )
    expect(await shownMachine(fleet, raw.id)).toBeUndefined()
  })

  it('a damaged token keeps the agent from starting, which its console says without a word of it', async () => {
    const [id = '', secret = ''] = (await token()).split('.')
    const agent = await fleet.addAgent('damaged', { token: `${id}.${secret}` })
    const console = await untilConsole(agent, /the agent of this machine does not start/)
    expect(console).toMatch(/reason .*token: has 2 parts between dots instead of 4; .*muster token create/)
    expect(console).not.toContain(secret)
    await until('its end', () => (agent.program?.running === false ? true : undefined))
  })

  it('a used-up token is refused as such', async () => {
    const text = await token()
    const first = await RawMachine.make(fleet)
    expect((await first.enrol({ token: text })).case).toBe('certificate')
    const second = await RawMachine.make(fleet)
    expect(refusalOf(await second.enrol({ token: text }))).toMatchObject({ class: 'token-used-up' })
    await untilEvent(fleet, second.id, 'refused', /^token-used-up: .*one use is taken/)
  })

  it('a forged secret and an id that does not exist are answered alike: nobody learns which ids exist', async () => {
    const text = await token()
    const [id, secret = ''] = text.split('.')
    const forged = `${id}.${secret.startsWith('A') ? 'B' : 'A'}${secret.slice(1)}`
    const raw = await RawMachine.make(fleet)
    const one = refusalOf(await raw.enrol({ token: forged }))
    const other = refusalOf(await raw.enrol({ token: `0123456789abcdef.${secret}` }))
    expect(one).toMatchObject({ class: 'token-unknown' })
    expect(other).toEqual(one)
    // Shorter, longer and empty secrets are no better, also a good one with something behind it.
    for (const bad of ['', secret.slice(0, -1), `${secret}A`]) {
      expect(refusalOf(await raw.enrol({ token: `${id}.${bad}` }))).toMatchObject({ class: 'token-unknown' })
    }
    await untilEvent(fleet, raw.id, 'refused', /^token-unknown: there is no such token/)
    expect((await raw.enrol({ token: text })).case).toBe('certificate')
  })

  it('a revoked token is refused as such', async () => {
    const text = await token()
    await fleet.api.revokeToken({ id: text.split('.')[0] ?? '' })
    const raw = await RawMachine.make(fleet)
    expect(refusalOf(await raw.enrol({ token: text }))).toMatchObject({ class: 'token-revoked' })
    await untilEvent(fleet, raw.id, 'refused', /^token-revoked/)
  })

  it('a token without a lifetime, without uses or for ever cannot be made', async () => {
    await expect(fleet.api.createToken({ uses: 1 })).rejects.toThrow(/lifetime: is required/)
    await expect(makeToken(fleet, { uses: 0 })).rejects.toThrow(/uses: must be 1/)
    await expect(makeToken(fleet, { lifetimeMs: 400 * 86_400_000 })).rejects.toThrow(/at most 366 days/)
  })

  it('an agent with a bad token says so on its console, then waits where the operator sees it', async () => {
    const agent = await fleet.addAgent('bad-token', { token: await token({ lifetimeMs: 1 }) })
    await untilConsole(agent, /token-expired: token \w+ expired/)
    await untilPending(fleet, agent)
    await untilEvent(fleet, await idOf(agent), 'refused', /^token-expired/)
    await fleet.api.approveMachine({ ref: await idOf(agent) })
    await untilConsole(agent, /this machine is enrolled/)
  })
})

describe('N15: a token is consumed before a certificate is issued', () => {
  it('of 100 machines that show a single-use token at once exactly one gets in', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'mk-'))
    const keys = await keyPool(folder, 100)
    await rm(folder, { recursive: true })
    const text = await token()
    const machines = keys.map(key => new RawMachine(fleet, key))
    const requests = await Promise.all(machines.map(machine => machine.request({ token: text })))
    using client = await machines[0]!.enrolmentClient()
    const answers = await Promise.all(
      requests.map(async request => (await client.enrol(request, { deadlineMs: 60_000 })).answer),
    )
    const kinds = answers.map(answer => (answer.case === 'refusal' ? answer.value.class : answer.case))
    expect(kinds.filter(kind => kind === 'certificate')).toHaveLength(1)
    expect(kinds.filter(kind => kind === 'token-used-up')).toHaveLength(99)
    const { tokens } = await fleet.api.listTokens({})
    const info = tokens.find(({ id }) => id === text.split('.')[0])
    expect(info).toMatchObject({ used: 1, uses: 1 })
    expect(info?.machines).toHaveLength(1)
    const { machines: shown } = await fleet.api.listMachines({ where: '' })
    expect(shown.filter(({ admittedBy }) => admittedBy === `token ${info?.id}`)).toHaveLength(1)
  })

  it('the same machine that asks twice at once uses a token once', async () => {
    const text = await token({ uses: 5 })
    const raw = await RawMachine.make(fleet)
    const facts = { system: { serial: 'TWICE' } }
    const requests = await Promise.all([1, 2, 3, 4].map(() => raw.request({ token: text, facts })))
    const answers = await Promise.all(requests.map(request => raw.send(request)))
    expect(answers.map(answer => answer.case)).toEqual(Array(4).fill('certificate'))
    const { tokens } = await fleet.api.listTokens({})
    expect(tokens.find(({ id }) => id === text.split('.')[0])).toMatchObject({ used: 1 })
  })
})

describe('T66: a token stands nowhere', () => {
  it('neither log, console, state nor store of either side holds a secret', async () => {
    const good = await token()
    const agent = await fleet.addAgent('keeps-quiet', { token: good })
    await until('enrolment', async () => (await shownMachine(fleet, await idOf(agent)))?.online || undefined)
    const kept = [await filesBelow(fleet.coordinatorState), await filesBelow(agent.stateDir)].flat()
    const logs = [fleet.coordinator, agent.program].flatMap(program => [program?.stdout, program?.stderr])
    const files = await Promise.all(kept.map(path => readFile(path, 'latin1')))
    const texts = [...files, ...logs, await agent.consoleText()]
    expect(texts.join('').length).toBeGreaterThan(10_000)
    for (const text of made) {
      const secret = text.split('.')[1] ?? ''
      expect(secret.length).toBeGreaterThan(40)
      expect(texts.some(kept => kept?.includes(secret))).toBe(false)
    }
  })
})

async function filesBelow(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true })
  return entries.filter(entry => entry.isFile()).map(entry => join(entry.parentPath, entry.name))
}
