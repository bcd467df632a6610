import { X509Certificate } from 'node:crypto'
import { create } from '@bufbuild/protobuf'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  ApproveMachineRequestSchema,
  BanMachineRequestSchema,
  EvictMachineRequestSchema,
  RejectMachineRequestSchema,
  ReleaseMachineRequestSchema,
  UnbindHostRequestSchema,
} from '../../shared/gen/muster/v1/admission_pb.ts'
import { ReportFailureRequestSchema } from '../../shared/gen/muster/v1/enrolment_pb.ts'
import { ListEventsRequestSchema } from '../../shared/gen/muster/v1/event_pb.ts'
import {
  CreateTokenRequestSchema,
  ListTokensRequestSchema,
  RevokeTokenRequestSchema,
} from '../../shared/gen/muster/v1/token_pb.ts'
import { createLogger } from '../../shared/log.ts'
import { durationFromMs } from '../../shared/time.ts'
import { type GeneratedKey, generateMachineKey } from '../../shared/x509/machine-key.ts'
import { readPeerIdentity } from '../../shared/x509/peer-identity.ts'
import { approveMachine } from '../api/approve-machine.ts'
import { banMachine } from '../api/ban-machine.ts'
import { createToken } from '../api/create-token.ts'
import { evictMachine } from '../api/evict-machine.ts'
import { listEvents } from '../api/list-events.ts'
import { listTokens } from '../api/list-tokens.ts'
import { rejectMachine } from '../api/reject-machine.ts'
import { releaseMachine } from '../api/release-machine.ts'
import { revokeToken } from '../api/revoke-token.ts'
import { unbindHost } from '../api/unbind-host.ts'
import { admitSession } from '../machines/admit-session.ts'
import { describeMachine } from '../machines/describe-machines.ts'
import { readFacts } from '../machines/read-facts.ts'
import { recordFacts } from '../machines/record-facts.ts'
import {
  factsBytes,
  helloOf,
  idOf,
  openTestAuthorities,
  openTestFleet,
  type TestFleet,
  targetOf,
} from '../machines/testing/test-fleet.ts'
import { findMachine } from '../store/machines.ts'
import { consumeToken, findToken } from '../store/tokens.ts'
import { admitMachine } from './admit.ts'
import { reportFailure } from './report-failure.ts'
import { readShownToken } from './shown-token.ts'

let made: Awaited<ReturnType<typeof openTestAuthorities>>
let key: GeneratedKey
let otherKey: GeneratedKey
let thirdKey: GeneratedKey

beforeAll(async () => {
  made = await openTestAuthorities()
  ;[key, otherKey, thirdKey] = await Promise.all([
    generateMachineKey(2048),
    generateMachineKey(2048),
    generateMachineKey(2048),
  ])
})
afterAll(() => made[Symbol.asyncDispose]())

const open = () => openTestFleet(made.authorities)
const local = { kind: 'local' } as const
const machineOf = (serial: string, disk: string, uuid = `uuid-of-${serial}`) => ({
  system: { serial, uuid, product: 'N100' },
  disks: [{ name: 'sda', serial: disk }],
})

async function tokenFor(
  fleet: TestFleet,
  wanted: { uses?: number; lifetimeMs?: number; host?: string; labels?: Record<string, string> } = {},
): Promise<string> {
  const { uses = 1, lifetimeMs = 3_600_000, host = '', labels = {} } = wanted
  const request = { lifetime: durationFromMs(lifetimeMs), uses, host, labels }
  const answer = await createToken(fleet.deps)(create(CreateTokenRequestSchema, request), local)
  return answer.token ?? ''
}

describe('a token', () => {
  it('lets a machine in: certificate, row, labels and use belong together', async () => {
    await using fleet = await open()
    const token = await tokenFor(fleet, { labels: { rack: 'a' } })
    expect(token.split('.')).toEqual([
      expect.stringMatching(/^[0-9a-f]{16}$/),
      expect.stringMatching(/^[\w-]{43}$/),
      made.authorities.shownPin,
      '',
    ])
    const answer = await fleet.ask({ key, token, facts: machineOf('S1', 'D1') })
    if (answer.case !== 'certificate') throw new Error(`answered ${JSON.stringify(answer)}`)
    const certificate = new X509Certificate(answer.value.chainPem ?? '')
    expect(readPeerIdentity(certificate)).toMatchObject({
      ok: true,
      identity: { kind: 'machine', id: idOf(key) },
    })
    const row = await findMachine(fleet.deps.store.db, idOf(key))
    expect(row).toMatchObject({
      state: 'enrolled',
      admitted_by: `token ${token.split('.')[0]}`,
      labels: '{"rack":"a"}',
      serial: 'S1',
      certificate_not_after: new Date(certificate.validTo).getTime(),
      certificate_issuer: made.authorities.issuingPin,
    })
    expect(fleet.deps.directory.isAllowed(idOf(key))).toBe(true)
    const { tokens } = await listTokens(fleet.deps)(create(ListTokensRequestSchema), local)
    expect(tokens).toMatchObject([{ used: 1, uses: 1, machines: [idOf(key)] }])
  })

  it('is kept only as a hash of its secret', async () => {
    await using fleet = await open()
    const [id = '', secret = ''] = (await tokenFor(fleet)).split('.')
    const row = await findToken(fleet.deps.store.db, id)
    expect(JSON.stringify(row)).not.toContain(secret)
    expect(row?.secret_hash).toMatch(/^[0-9a-f]{64}$/)
  })

  it('is refused with its class when unknown, forged, expired, used up or revoked, and operators see it', async () => {
    await using fleet = await open()
    const good = await tokenFor(fleet)
    const [id = ''] = good.split('.')
    const classOf = async (token: string, by = key) => {
      const answer = await fleet.ask({ key: by, token })
      return answer.case === 'refusal' ? [answer.value.class, answer.value.retry] : answer.case
    }
    expect(await classOf('0000000000000000.x..')).toEqual(['token-unknown', false])
    expect(await classOf(`${id}.${'A'.repeat(43)}..`)).toEqual(['token-unknown', false])
    const short = await tokenFor(fleet, { lifetimeMs: 1_000 })
    fleet.pass(1_000)
    expect(await classOf(short)).toEqual(['token-expired', false])
    expect(await classOf(good, otherKey)).toBe('certificate')
    expect(await classOf(good)).toEqual(['token-used-up', false])
    const revoked = await tokenFor(fleet)
    await revokeToken(fleet.deps)(
      create(RevokeTokenRequestSchema, { id: revoked.split('.')[0] ?? '' }),
      local,
    )
    expect(await classOf(revoked)).toEqual(['token-revoked', false])
    expect(await findMachine(fleet.deps.store.db, idOf(key))).toBeUndefined()
    const { events } = await listEvents(fleet.deps)(
      create(ListEventsRequestSchema, { ref: idOf(key) }),
      local,
    )
    expect(events?.map(event => event.reason?.split(':')[0])).toEqual(
      expect.arrayContaining(['token-unknown', 'token-expired', 'token-used-up', 'token-revoked']),
    )
  })

  it('N15: with one use has one consumer among a hundred machines that come at once', async () => {
    await using fleet = await open()
    const token = await tokenFor(fleet, { uses: 1 })
    const [tokenId = '', tokenSecret = ''] = token.split('.')
    const facts = readFacts(factsBytes({}), 1_000)
    if (facts.kind !== 'ok') throw new Error(facts.reason)
    const outcomes = await Promise.all(
      Array.from({ length: 100 }, async (_, index) => {
        // One key stands for all, since only its id is counted here.
        const machineId = index.toString(16).padStart(64, '0')
        const shown = await readShownToken(fleet.deps.store.db, { tokenId, tokenSecret }, machineId)
        const proved = {
          kind: 'proved',
          machineId,
          publicKey: key.publicKeyDer,
          facts,
          token: shown,
        } as const
        return admitMachine(fleet.deps, proved, tokenSecret, '192.0.2.1', fleet.deps.clock.now())
      }),
    )
    expect(outcomes.filter(({ kind }) => kind === 'certificate')).toHaveLength(1)
    expect(
      outcomes.filter(outcome => outcome.kind === 'refuse' && outcome.class === 'token-used-up'),
    ).toHaveLength(99)
    expect(await findToken(fleet.deps.store.db, tokenId)).toMatchObject({ used: 1 })
    const rows = await fleet.deps.store.db.selectFrom('machines').select('id').execute()
    expect(rows).toHaveLength(1)
  })

  it('is taken by the statement itself only while it is good, whatever was read before', async () => {
    await using fleet = await open()
    const { store } = fleet.deps
    const idOfToken = async () => (await tokenFor(fleet)).split('.')[0] ?? ''
    const take = (id: string) =>
      store.transact(tx => consumeToken(tx, id, idOf(key), fleet.deps.clock.now().getTime()))
    const revoked = await idOfToken()
    await revokeToken(fleet.deps)(create(RevokeTokenRequestSchema, { id: revoked }), local)
    expect(await take(revoked)).toBe(false)
    const good = await idOfToken()
    expect([await take(good), await take(good)]).toEqual([true, false])
    const late = await idOfToken()
    fleet.pass(3_600_000)
    expect(await take(late)).toBe(false)
  })

  it('N17: gives the same key its certificate again without another use, as after an answer that was lost', async () => {
    await using fleet = await open()
    const token = await tokenFor(fleet)
    expect((await fleet.ask({ key, token })).case).toBe('certificate')
    expect((await fleet.ask({ key, token })).case).toBe('certificate')
    expect(await findToken(fleet.deps.store.db, token.split('.')[0] ?? '')).toMatchObject({ used: 1 })
  })

  it('T8: says nothing about which machine somebody is: only its own host follows from it, bound in the same step', async () => {
    await using fleet = await open()
    await fleet.target(1, [
      targetOf({ host: 'olaf', role: 'server', binding: { serial: 'S1' } }),
      targetOf({ host: 'nas' }),
    ])
    const token = await tokenFor(fleet, { host: 'nas' })
    // It claims to be called olaf; a name that a machine gives itself is worth nothing.
    const facts = { system: { hostname: 'olaf', serial: 'other' } }
    expect((await fleet.ask({ key, token, facts })).case).toBe('certificate')
    expect(fleet.deps.directory.assignment(idOf(key))).toMatchObject({
      kind: 'host',
      host: 'nas',
      boundBy: 'hand',
    })
    await expect(tokenFor(fleet, { host: 'nas' })).rejects.toThrow('is machine')
  })
})

describe('a machine without a token', () => {
  it('waits, is shown with what lets it in, and gets its certificate after an operator approved it', async () => {
    await using fleet = await open()
    const waiting = await fleet.ask({ key, facts: machineOf('S1', 'D1') })
    expect(waiting).toMatchObject({
      case: 'waiting',
      value: { command: `muster approve ${idOf(key).slice(0, 12)}`, retryAfterSeconds: 10 },
    })
    expect(await describeMachine(fleet.deps, idOf(key))).toMatchObject({
      state: 1,
      serial: 'S1',
      conditions: [{ class: 'waiting' }],
    })
    const { machine } = await approveMachine(fleet.deps)(
      create(ApproveMachineRequestSchema, { ref: idOf(key).slice(0, 6) }),
      local,
    )
    expect(machine).toMatchObject({ state: 2, admittedBy: 'operator local' })
    expect((await fleet.ask({ key, facts: machineOf('S1', 'D1') })).case).toBe('certificate')
  })

  it('is turned away when rejected, and may be approved later', async () => {
    await using fleet = await open()
    await fleet.ask({ key })
    await rejectMachine(fleet.deps)(
      create(RejectMachineRequestSchema, { ref: idOf(key), reason: 'not ours' }),
      local,
    )
    expect(await fleet.ask({ key })).toMatchObject({
      case: 'refusal',
      value: { class: 'rejected', retry: true },
    })
    await approveMachine(fleet.deps)(create(ApproveMachineRequestSchema, { ref: idOf(key) }), local)
    expect((await fleet.ask({ key })).case).toBe('certificate')
  })

  it('is let in by the rule of a group that allows it, and becomes the host that the group names', async () => {
    await using fleet = await open()
    const binding = { rule: "facts.system.product == 'N100'", nameTemplate: 'edge-{serial}' }
    await fleet.target(1, [targetOf({ group: 'edge', binding })])
    expect((await fleet.ask({ key, facts: machineOf('S1', 'D1') })).case).toBe('certificate')
    expect(await describeMachine(fleet.deps, idOf(key))).toMatchObject({
      host: 'edge-s1',
      group: 'edge',
      boundBy: 3,
      admittedBy: 'rule edge',
    })
    // The same claims once more would be the same host: no rule gives a host to a second machine.
    const second = await fleet.ask({ key: otherKey, facts: machineOf('S1', 'D2') })
    expect(second).toMatchObject({ case: 'waiting', value: { reason: expect.stringContaining('edge-s1') } })
  })

  it('lets in no more machines by a rule than a rule may', async () => {
    await using fleet = await open()
    fleet.deps.maxByRule = 1
    const binding = { rule: 'true', nameTemplate: 'edge-{serial}' }
    await fleet.target(1, [targetOf({ group: 'edge', binding })])
    const facts = (serial: string) => ({ system: { serial } })
    expect((await fleet.ask({ key, facts: facts('S1') })).case).toBe('certificate')
    expect(await fleet.ask({ key: otherKey, facts: facts('S2') })).toMatchObject({
      case: 'waiting',
      value: { reason: expect.stringContaining('has let in 1 machines, as many as a rule may') },
    })
    // It was let in before: its place is its own.
    expect((await fleet.ask({ key, facts: facts('S1') })).case).toBe('certificate')
  })

  it('is never made a server by a rule, nor a host that the file lists', async () => {
    await using fleet = await open()
    const binding = { rule: 'true', nameTemplate: 'edge-{serial}' }
    await fleet.target(1, [targetOf({ group: 'edge', role: 'server', binding })])
    expect((await fleet.ask({ key, facts: machineOf('S1', 'D1') })).case).toBe('waiting')
    await fleet.target(2, [
      targetOf({ group: 'edge', binding }),
      targetOf({ host: 'olaf', role: 'server', binding: { diskSerial: 'D1' } }),
    ])
    expect((await fleet.ask({ key, facts: machineOf('S1', 'D1') })).case).toBe('waiting')
    expect((await fleet.ask({ key, facts: machineOf('S1', 'D9') })).case).toBe('certificate')
  })

  it('is bounded: so many requests a second, so many that wait; a valid token is not throttled', async () => {
    await using fleet = await open()
    const token = await tokenFor(fleet, { uses: 30 })
    const answers: string[] = []
    const askFrom = async (address: string) => {
      const answer = await fleet.ask({ key, address })
      answers.push(
        answer.case === 'refusal'
          ? `${answer.value.class} ${answer.value.retryAfterSeconds}`
          : (answer.case ?? ''),
      )
    }
    // Half of what all may is one address's share; the other half is left for others.
    for (let i = 0; i < 12; i++) await askFrom('192.0.2.7')
    for (let i = 0; i < 12; i++) await askFrom('192.0.2.8')
    await askFrom('192.0.2.9')
    const share = [...Array(10).fill('waiting'), 'full 1', 'full 1']
    expect(answers).toEqual([...share, ...share, 'full 1'])
    expect((await fleet.ask({ key: otherKey, token })).case).toBe('certificate')
    fleet.pass(1_000)
    expect((await fleet.ask({ key })).case).toBe('waiting')
  })
})

describe('what is kept and written of strangers', () => {
  it('takes down no more machines than may wait', async () => {
    await using fleet = await open()
    fleet.deps.maxPending = 1
    expect((await fleet.ask({ key })).case).toBe('waiting')
    expect(await fleet.ask({ key: otherKey })).toMatchObject({ value: { class: 'full', retry: true } })
    expect((await fleet.ask({ key })).case).toBe('waiting')
    expect(await findMachine(fleet.deps.store.db, idOf(otherKey))).toBeUndefined()
  })

  it('logs a bounded number of refusals, and then of how many it said nothing', async () => {
    await using fleet = await open()
    const lines: string[] = []
    fleet.deps.log = createLogger('info', { write: line => lines.push(line) })
    for (let i = 0; i < 1_000; i++) await fleet.ask({ key, address: `198.51.100.${i % 5}` })
    const told = () => lines.map(line => JSON.parse(line)).filter(({ msg }) => msg === 'enrolment refused')
    expect(told()[0]).toMatchObject({ machineId: idOf(key), class: 'full', address: '198.51.100.0' })
    expect(told()).toHaveLength(100)
    fleet.pass(1_000)
    for (let i = 0; i < 30; i++) await fleet.ask({ key, address: '198.51.100.0' })
    expect(told()).toHaveLength(101)
    // Of the 1,000 20 were heard, which is what strangers may ask at once.
    expect(told().at(-1)).toMatchObject({ class: 'full', unlogged: 1_000 - 20 - 100 })
  })

  it('turns away who knows the key of a machine and cannot prove it, as any stranger', async () => {
    await using fleet = await open()
    await fleet.ask({ key, token: await tokenFor(fleet) })
    const thief = { privateKeyPem: otherKey.privateKeyPem, publicKeyDer: key.publicKeyDer }
    const answers: unknown[] = []
    for (let i = 0; i < 12; i++) {
      const answer = await fleet.ask({ key: thief, address: '198.51.100.1' })
      answers.push(answer.case === 'refusal' && answer.value.class)
    }
    expect(answers).toEqual([...Array(10).fill('proof'), 'full', 'full'])
    // The machine itself is heard, from there too.
    expect((await fleet.ask({ key, address: '198.51.100.1' })).case).toBe('certificate')
  })

  it('T66: no log line, event or row holds the secret of a token, whether it was good or not', async () => {
    await using fleet = await open()
    const lines: string[] = []
    fleet.deps.log = createLogger('trace', { write: line => lines.push(line) })
    const token = await tokenFor(fleet)
    const secret = token.split('.')[1] ?? ''
    const wrong = 'W'.repeat(43)
    await fleet.ask({ key, token: `${token.split('.')[0]}.${wrong}..` })
    await fleet.ask({ key, token })
    await fleet.ask({ key: otherKey, token })
    expect(lines.length).toBeGreaterThan(0)
    const { db } = fleet.deps.store
    const rows = [
      await db.selectFrom('events').selectAll().execute(),
      await db.selectFrom('tokens').selectAll().execute(),
      await db.selectFrom('machines').selectAll().execute(),
    ]
    for (const text of [lines.join(''), JSON.stringify(rows)]) {
      expect(text).not.toContain(secret)
      expect(text).not.toContain(wrong)
    }
  })

  it('shows what a machine reports before it has an identity, as a claim, within a bound', async () => {
    await using fleet = await open()
    const report = (reason: string) =>
      reportFailure(fleet.deps)(
        create(ReportFailureRequestSchema, { class: 'clock', reason, serial: 'S1' }),
        { peer: { address: '192.0.2.7', certificate: undefined } },
      )
    await report('the clock is a year behind')
    const { events } = await listEvents(fleet.deps)(create(ListEventsRequestSchema), local)
    expect(events).toMatchObject([
      {
        class: 'enrolment-failed',
        reason: expect.stringContaining('claimed by 192.0.2.7'),
        actor: 'stranger',
      },
    ])
    await expect(report('x'.repeat(5_000))).rejects.toThrow('4096')
    const reports = Promise.all(Array.from({ length: 30 }, () => report('again')))
    await expect(reports).rejects.toThrow('too many')
  })
})

describe('the proof', () => {
  it('is refused when made by another key, for another authority, or with a nonce that served before', async () => {
    await using fleet = await open()
    const token = await tokenFor(fleet, { uses: 9 })
    const classOf = async (asking: Omit<Parameters<TestFleet['ask']>[0], 'key'>) => {
      const answer = await fleet.ask({ key, token, ...asking })
      return answer.case === 'refusal' ? answer.value.class : answer.case
    }
    expect(await classOf({ proof: new Uint8Array(256) })).toBe('proof')
    expect(await classOf({ caId: 'a'.repeat(64) })).toBe('proof')
    const nonce = fleet.deps.nonces.issue()
    expect(await classOf({ nonce })).toBe('certificate')
    expect(await classOf({ nonce })).toBe('replay')
    expect(await classOf({ nonce: new Uint8Array(32) })).toBe('nonce')
    const old = fleet.deps.nonces.issue()
    fleet.pass(5 * 60_000)
    expect(await classOf({ nonce: old })).toBe('nonce')
  })

  it('T2: of a recorded request is shown to operators, however often it is sent without filling the events', async () => {
    await using fleet = await open()
    const nonce = fleet.deps.nonces.issue()
    await fleet.ask({ key, token: await tokenFor(fleet), nonce })
    const recorded = { nonce, address: '203.0.113.9' }
    for (let i = 0; i < 50; i++) await fleet.ask({ key, ...recorded })
    // Under another key each time, which is claimed and proves nothing: what strangers may write is bounded.
    for (let i = 0; i < 230; i++) {
      const publicKeyDer = Buffer.from(`no key ${i}`)
      await fleet.ask({ key: { ...key, publicKeyDer }, nonce, address: `203.0.113.${i % 250}` })
      fleet.pass(100)
    }
    const { events } = await listEvents(fleet.deps)(create(ListEventsRequestSchema, { limit: 1_000 }), local)
    const shown = events?.filter(({ reason }) => reason?.startsWith('replay: the nonce served before')) ?? []
    expect(shown.filter(({ machine }) => machine === idOf(key))).toMatchObject([
      { class: 'refused', reason: expect.stringMatching(/\(from 203\.0\.113\.9\)$/) },
    ])
    expect(shown.length).toBeGreaterThan(100)
    expect(shown.length).toBeLessThanOrEqual(200 + 230 * 0.1 * 0.2)
  })

  it('T6: is needed again by a machine that is known, whose key nobody else gets an identity for', async () => {
    await using fleet = await open()
    await fleet.ask({ key, token: await tokenFor(fleet) })
    const thief = { privateKeyPem: otherKey.privateKeyPem, publicKeyDer: key.publicKeyDer }
    expect(await fleet.ask({ key: thief })).toMatchObject({ case: 'refusal', value: { class: 'proof' } })
  })
})

describe('a machine that was let in', () => {
  it('N19: comes back with its old key after its certificate expired, without a token', async () => {
    await using fleet = await open()
    await fleet.ask({ key, token: await tokenFor(fleet), facts: machineOf('S1', 'D1') })
    await admitSession(fleet.deps, idOf(key), helloOf({}), '192.0.2.7')
    fleet.pass(60 * 86_400_000)
    const answer = await fleet.ask({ key, facts: machineOf('S1', 'D1') })
    expect(answer.case).toBe('certificate')
    expect(await findMachine(fleet.deps.store.db, idOf(key))).toMatchObject({ state: 'active' })
  })

  it('returns after an eviction only by a token made later, or by hand', async () => {
    await using fleet = await open()
    const early = await tokenFor(fleet, { uses: 5 })
    await fleet.ask({ key, token: early })
    fleet.online.add(idOf(key))
    await evictMachine(fleet.deps)(
      create(EvictMachineRequestSchema, { ref: idOf(key), reason: 'sold' }),
      local,
    )
    expect(fleet.ended).toEqual([{ machine: idOf(key), reason: 'evicted: sold' }])
    const evicted = { case: 'refusal', value: { class: 'evicted', retry: false } }
    expect(await fleet.ask({ key })).toMatchObject(evicted)
    expect(await fleet.ask({ key, token: early })).toMatchObject(evicted)
    fleet.pass(1)
    const later = await tokenFor(fleet)
    expect((await fleet.ask({ key, token: later })).case).toBe('certificate')
    await evictMachine(fleet.deps)(create(EvictMachineRequestSchema, { ref: idOf(key), reason: '' }), local)
    await approveMachine(fleet.deps)(create(ApproveMachineRequestSchema, { ref: idOf(key) }), local)
    expect((await fleet.ask({ key })).case).toBe('certificate')
  })

  it('never returns after a ban', async () => {
    await using fleet = await open()
    await fleet.ask({ key, token: await tokenFor(fleet) })
    await banMachine(fleet.deps)(create(BanMachineRequestSchema, { ref: idOf(key), reason: '' }), local)
    fleet.pass(1)
    const later = await tokenFor(fleet)
    expect(await fleet.ask({ key, token: later })).toMatchObject({
      case: 'refusal',
      value: { class: 'banned' },
    })
    await expect(
      approveMachine(fleet.deps)(create(ApproveMachineRequestSchema, { ref: idOf(key) }), local),
    ).rejects.toThrow('for good')
  })
})

describe('the command that a refusal names', () => {
  const commandFor = async (fleet: TestFleet, ...asked: Parameters<TestFleet['ask']>) => {
    const answer = await fleet.ask(...asked)
    return answer.case === 'refusal' ? answer.value.command : answer.case
  }

  /** What an operator does who types it. */
  const obey = async (fleet: TestFleet, command: string | undefined) => {
    const [, verb = '', ref = ''] = command?.split(' ') ?? []
    switch (verb) {
      case 'approve':
        return await approveMachine(fleet.deps)(create(ApproveMachineRequestSchema, { ref }), local)
      case 'release':
        return await releaseMachine(fleet.deps)(create(ReleaseMachineRequestSchema, { ref }), local)
      case 'unbind':
        return await unbindHost(fleet.deps)(create(UnbindHostRequestSchema, { host: ref }), local)
      default:
        throw new Error(`no such command: ${command}`)
    }
  }

  it('lets in who was evicted or turned away', async () => {
    await using fleet = await open()
    await fleet.ask({ key })
    await rejectMachine(fleet.deps)(create(RejectMachineRequestSchema, { ref: idOf(key) }), local)
    await obey(fleet, await commandFor(fleet, { key }))
    expect(await commandFor(fleet, { key })).toBe('certificate')
    await evictMachine(fleet.deps)(create(EvictMachineRequestSchema, { ref: idOf(key) }), local)
    await obey(fleet, await commandFor(fleet, { key }))
    expect(await commandFor(fleet, { key })).toBe('certificate')
  })

  it('releases both of a collision, each by its own', async () => {
    await using fleet = await open()
    const token = await tokenFor(fleet, { uses: 9 })
    const facts = machineOf('S1', 'D1')
    await fleet.ask({ key, token, facts })
    for (const each of [otherKey, key]) {
      await obey(fleet, await commandFor(fleet, { key: each, token, facts }))
      expect(await commandFor(fleet, { key: each, token, facts })).toBe('certificate')
    }
  })

  it('frees the host that a token is for', async () => {
    await using fleet = await open()
    await fleet.target(1, [targetOf({ host: 'olaf' })])
    const [first, second] = [await tokenFor(fleet, { host: 'olaf' }), await tokenFor(fleet, { host: 'olaf' })]
    expect(await commandFor(fleet, { key, token: first })).toBe('certificate')
    await obey(fleet, await commandFor(fleet, { key: otherKey, token: second }))
    expect(await commandFor(fleet, { key: otherKey, token: second })).toBe('certificate')
  })

  it('is none where no command helps', async () => {
    await using fleet = await open()
    expect(await commandFor(fleet, { key, token: 'no.such.token.' })).toBe('')
    await fleet.ask({ key })
    await banMachine(fleet.deps)(create(BanMachineRequestSchema, { ref: idOf(key) }), local)
    expect(await commandFor(fleet, { key })).toBe('')
    // Of those for whom there is no room nothing is kept, so there is nobody to release.
    const [token, facts] = [await tokenFor(fleet), machineOf('S1', 'D1')]
    await fleet.ask({ key: otherKey, token, facts })
    fleet.deps.maxPending = 0
    expect(await commandFor(fleet, { key: thirdKey, facts })).toBe('')
    expect(await commandFor(fleet, { key: thirdKey })).toBe('muster pending')
  })
})

describe('two machines that claim the same hardware', () => {
  it('T7: collide: neither is acted on, neither gets a certificate, until a person released it', async () => {
    await using fleet = await open()
    const { directory } = fleet.deps
    const token = await tokenFor(fleet, { uses: 9 })
    await fleet.ask({ key, token, facts: machineOf('S1', 'D1', 'U1') })
    expect(directory.mayAct(idOf(key))).toBe(true)
    const second = await fleet.ask({ key: otherKey, token, facts: machineOf('S1', 'D1', 'U2') })
    expect(second).toMatchObject({ case: 'refusal', value: { class: 'conflict', retry: true } })
    expect(directory.get(idOf(otherKey))).toMatchObject({ state: 'pending' })
    for (const of of [key, otherKey]) {
      expect(directory.mayAct(idOf(of))).toBe(false)
      expect(directory.get(idOf(of))?.conditions).toMatchObject([{ class: 'collision' }])
    }
    expect(await fleet.ask({ key, facts: machineOf('S1', 'D1', 'U1') })).toMatchObject({
      case: 'refusal',
      value: { class: 'conflict' },
    })
    await releaseMachine(fleet.deps)(
      create(ReleaseMachineRequestSchema, { ref: idOf(key), reason: 'this is the one' }),
      local,
    )
    expect(directory.mayAct(idOf(key))).toBe(true)
    expect((await fleet.ask({ key, facts: machineOf('S1', 'D1', 'U1') })).case).toBe('certificate')
    // The other one stays out, and does not bring the collision back by asking again.
    expect((await fleet.ask({ key: otherKey, token, facts: machineOf('S1', 'D1', 'U2') })).case).toBe(
      'refusal',
    )
    expect(directory.mayAct(idOf(key))).toBe(true)
  })

  it('stay let be after a release, also when their facts change', async () => {
    await using fleet = await open()
    const { directory } = fleet.deps
    const token = await tokenFor(fleet, { uses: 9 })
    await fleet.ask({ key, token, facts: machineOf('S1', 'D1') })
    await fleet.ask({ key: otherKey, token, facts: machineOf('S1', 'D1') })
    await releaseMachine(fleet.deps)(create(ReleaseMachineRequestSchema, { ref: idOf(key) }), local)
    const changed = factsBytes({ ...machineOf('S1', 'D1'), memory: { total: 5n } })
    await recordFacts(fleet.deps, idOf(key), changed)
    expect(directory.mayAct(idOf(key))).toBe(true)
    expect(directory.mayAct(idOf(otherKey))).toBe(false)
  })

  it('are only free of those that went: two of three still collide', async () => {
    await using fleet = await open()
    const { directory } = fleet.deps
    const token = await tokenFor(fleet, { uses: 9 })
    for (const each of [key, otherKey, thirdKey]) {
      await fleet.ask({ key: each, token, facts: machineOf('S1', 'D1') })
    }
    await banMachine(fleet.deps)(create(BanMachineRequestSchema, { ref: idOf(key) }), local)
    for (const each of [otherKey, thirdKey]) {
      expect(directory.get(idOf(each))?.conditions).toMatchObject([{ class: 'collision' }])
    }
  })

  it('T7: with one key are a clone, found when it asks as another machine; what is known of it stays', async () => {
    await using fleet = await open()
    await fleet.ask({ key, token: await tokenFor(fleet), facts: machineOf('S1', 'D1') })
    const elsewhere = await fleet.ask({ key, facts: machineOf('S2', 'D2') })
    expect(elsewhere).toMatchObject({ case: 'refusal', value: { class: 'conflict' } })
    expect(fleet.deps.directory.get(idOf(key))).toMatchObject({
      conditions: [{ class: 'clone' }],
      identity: { serial: 'S1' },
    })
  })

  it('are free again when the other one was sent away, as after a machine was installed anew', async () => {
    await using fleet = await open()
    const token = await tokenFor(fleet, { uses: 9 })
    await fleet.ask({ key, token, facts: machineOf('S1', 'D1') })
    expect((await fleet.ask({ key: otherKey, token, facts: machineOf('S1', 'D1') })).case).toBe('refusal')
    await evictMachine(fleet.deps)(create(EvictMachineRequestSchema, { ref: idOf(key), reason: '' }), local)
    expect((await fleet.ask({ key: otherKey, token, facts: machineOf('S1', 'D1') })).case).toBe('certificate')
  })

  it.each(['approve', 'token'])(
    'collide also when one comes back that was sent away before, by %s',
    async way => {
      await using fleet = await open()
      const { directory } = fleet.deps
      const token = await tokenFor(fleet, { uses: 9 })
      const facts = machineOf('S1', 'D1')
      await fleet.ask({ key, token, facts })
      await evictMachine(fleet.deps)(create(EvictMachineRequestSchema, { ref: idOf(key), reason: '' }), local)
      expect((await fleet.ask({ key: otherKey, token, facts })).case).toBe('certificate')
      fleet.pass(1)
      if (way === 'approve')
        await approveMachine(fleet.deps)(create(ApproveMachineRequestSchema, { ref: idOf(key) }), local)
      const again = way === 'token' ? { token: await tokenFor(fleet) } : {}
      expect(await fleet.ask({ key, facts, ...again })).toMatchObject({
        case: 'refusal',
        value: { class: 'conflict' },
      })
      for (const each of [key, otherKey]) {
        expect(directory.mayAct(idOf(each))).toBe(false)
        expect(directory.get(idOf(each))?.conditions).toMatchObject([{ class: 'collision' }])
      }
      // A person looked: both are what they say.
      for (const each of [key, otherKey]) {
        await releaseMachine(fleet.deps)(create(ReleaseMachineRequestSchema, { ref: idOf(each) }), local)
        expect((await fleet.ask({ key: each, facts, ...again })).case).toBe('certificate')
      }
    },
  )

  it('with one SMBIOS UUID, or without any serial, are only shown or not even that', async () => {
    await using fleet = await open()
    const token = await tokenFor(fleet, { uses: 9 })
    await fleet.ask({ key, token, facts: machineOf('S1', 'D1', 'same') })
    expect((await fleet.ask({ key: otherKey, token, facts: machineOf('S2', 'D2', 'same') })).case).toBe(
      'certificate',
    )
    const machine = await describeMachine(fleet.deps, idOf(key))
    expect(machine.conditions?.map(condition => condition.class)).toEqual(['similar'])
    expect(fleet.deps.directory.mayAct(idOf(key))).toBe(true)
  })
})
