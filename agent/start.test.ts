import { once } from 'node:events'
import { readFile, rm, stat, writeFile } from 'node:fs/promises'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { pipeline } from 'node:stream'
import { create, fromBinary } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import { credentials, status } from '@grpc/grpc-js'
import { beforeAll, describe, expect, it } from 'vitest'
import { generateSigningKey, type SigningKeyPair } from '../shared/envelope/keys.ts'
import { FactsSchema } from '../shared/gen/muster/v1/facts_pb.ts'
import { LocalService } from '../shared/gen/muster/v1/local_pb.ts'
import { TrustChainSchema } from '../shared/gen/muster/v1/trust_pb.ts'
import { sha256Hex } from '../shared/ids.ts'
import { createClient } from '../shared/rpc/client.ts'
import { denied, RpcError, unavailable } from '../shared/rpc/rpc-error.ts'
import { durationFromMs } from '../shared/time.ts'
import { makeFirstTrustSet, makeNextTrustSet, type SignedTrust } from '../shared/trust/make-trust-set.ts'
import { AgentUnderTest } from './session/testing/agent-under-test.ts'
import { Hub, type HubKeys, makeHubKeys } from './session/testing/hub.ts'

let keys: HubKeys
let signer: SigningKeyPair
let first: SignedTrust

beforeAll(async () => {
  keys = await makeHubKeys()
  signer = generateSigningKey()
  first = firstTrust(signer)
})

function firstTrust(key: SigningKeyPair, caPins: readonly string[] = []): SignedTrust {
  return makeFirstTrustSet({
    fleetId: '0123456789abcdef0123456789abcdef',
    created: new Date(),
    keys: [{ key, comment: 'test' }],
    threshold: 1,
    recoveryKeys: [],
    caPins,
    coordinators: [],
    signers: [key],
  })
}

const chainOf = (...sets: readonly SignedTrust[]) =>
  create(TrustChainSchema, { envelopes: sets.map(set => set.envelope) })

const poll = (value: () => unknown) => expect.poll(value, { timeout: 10_000, interval: 10 })

async function agentOf(hub: Hub, config: object = {}): Promise<AgentUnderTest> {
  return AgentUnderTest.prepare({ coordinator: hub.coordinator, caPin: keys.authority.pin, ...config })
}

describe('enrolment', () => {
  it('enrols by a token whose pins serve, takes the trust set, connects, and tells who it is', async () => {
    await using hub = await Hub.start(keys, made => {
      made.trust = chainOf(first)
    })
    await using test = await AgentUnderTest.prepare({ coordinator: hub.coordinator })
    const tokenFile = join(test.directory, 'token')
    await writeFile(tokenFile, `abc.s3cret.${keys.authority.pin}.${first.trust.digest}\n`, { mode: 0o600 })
    test.configure({ tokenFile })
    const agent = await test.start({ bootId: 'boot-1' })
    await poll(() => test.phase).toBe('connected')
    expect(hub.enrolments[0]).toMatchObject({ tokenId: 'abc', tokenSecret: 's3cret' })
    expect(hub.newest?.hello).toMatchObject({
      protocolMin: 1,
      bootId: 'boot-1',
      bootCount: 1n,
      allowed: ['apply', 'join'],
      simulated: true,
      factsDigest: '',
      trust: { number: 1n, digest: first.trust.digest, firstUse: false },
    })
    const facts = hub.enrolments[0]?.facts ?? new Uint8Array()
    expect(fromBinary(FactsSchema, facts).system?.serial).toBe('S1')
    expect((await stat(test.file('key.pem'))).mode & 0o777).toBe(0o600)
    expect((await stat(test.stateDir)).mode & 0o777).toBe(0o700)
    expect(await test.state()).toMatchObject({ machine: agent.machine, bootCount: 1 })
    expect(test.lines.join('')).not.toContain('s3cret')
  })

  it('starts with new pins in its configuration beside the token that let it in, but not before it is enrolled', async () => {
    const next = 'ee'.repeat(32)
    const both = firstTrust(signer, [keys.authority.pin, next])
    await using hub = await Hub.start(keys, made => {
      made.trust = chainOf(both)
    })
    await using test = await AgentUnderTest.prepare({ coordinator: hub.coordinator })
    const tokenFile = join(test.directory, 'token')
    await writeFile(tokenFile, `abc.s3cret.${keys.authority.pin}.${both.trust.digest}\n`, { mode: 0o600 })
    const renewed = { tokenFile, caPin: next, trustPin: 'dd'.repeat(32) }
    test.configure(renewed)
    await expect(test.start()).rejects.toThrow('but the token is for')
    test.configure({ ...renewed, caPin: undefined, trustPin: undefined })
    await test.start()
    await poll(() => test.phase).toBe('connected')
    await test.stop()
    test.configure(renewed)
    await test.start()
    await poll(() => test.phase).toBe('connected')
    expect(hub.enrolments).toHaveLength(1)
  })

  it('T8: keeps no name it was told but its key’s: the same key comes back as the same machine', async () => {
    await using hub = await Hub.start(keys)
    await using test = await agentOf(hub)
    const before = (await test.start()).machine
    await poll(() => test.phase).toBe('connected')
    await test.stop()
    expect((await test.start()).machine).toBe(before)
  })

  it('waits while pending, says on the console how to let it in, and goes on once admitted', async () => {
    let admitted = false
    await using hub = await Hub.start(keys, made => {
      made.answer = request =>
        admitted
          ? made.admit(request.publicKey)
          : { case: 'waiting', value: { reason: 'no rule matches \u001b[31m', command: '' } }
    })
    await using test = await agentOf(hub)
    const { machine } = await test.start()
    await poll(() => hub.enrolments.length).toBeGreaterThan(2)
    expect(test.phase).toBe('waiting')
    const shown = await test.console()
    expect(shown).toContain(`muster approve ${machine}`)
    expect(shown).toContain(hub.coordinator)
    expect(shown).toContain('no rule matches \\u001b[31m')
    // Once, however often it asks.
    expect(shown.split('muster approve').length).toBe(2)
    admitted = true
    await poll(() => test.phase).toBe('connected')
    expect(await test.console()).toContain('this machine is enrolled')
  })

  it('says on the console, once, when it was given the address of the listener for those who have enrolled', async () => {
    await using hub = await Hub.start(keys)
    let connections = 0
    const counting = createServer(socket => {
      connections += 1
      socket.on('error', () => {})
      pipeline(socket, connect(hub.fleetPort, '127.0.0.1'), socket, () => {})
    })
    counting.listen(0, '127.0.0.1')
    await once(counting, 'listening')
    const bound = counting.address()
    const coordinator = `127.0.0.1:${typeof bound === 'object' && bound ? bound.port : 0}`
    await using test = await agentOf(hub, { coordinator })
    await test.start()
    await poll(() => test.console()).toContain('give the address where machines enrol')
    const before = connections
    await poll(() => connections).toBeGreaterThan(before + 5)
    expect((await test.console()).split('Muster:')).toHaveLength(2)
    counting.close()
  })

  it('N45: sends nothing at all to a server of another authority', async () => {
    await using hub = await Hub.start(keys)
    await using test = await agentOf(hub, { caPin: keys.other.pin })
    await test.start()
    await poll(() => test.phase).toBe('refused')
    await poll(() => test.console()).toContain('pin: the server shows the authority')
    await poll(() => test.lines.filter(line => line.includes('enrolment waits')).length).toBeGreaterThan(0)
    expect(hub.calls).toEqual([])
  })

  it('refuses a trust chain without the set that its pin names, reports it, and asks for no certificate', async () => {
    await using hub = await Hub.start(keys, made => {
      made.trust = chainOf(firstTrust(generateSigningKey()))
    })
    await using test = await agentOf(hub, { trustPin: first.trust.digest })
    await test.start()
    await poll(() => hub.failures.length).toBeGreaterThan(0)
    expect(hub.failures[0]).toMatchObject({ class: 'trust', machine: test.agent?.machine })
    expect(hub.enrolments).toEqual([])
    await poll(() => test.phase).toBe('refused')
    hub.trust = chainOf(first)
    await poll(() => test.phase).toBe('connected')
  })

  it('refuses a trust set that does not list the authority of the coordinator which offers it', async () => {
    await using hub = await Hub.start(keys, made => {
      made.trust = chainOf(firstTrust(signer, [keys.other.pin]))
    })
    await using test = await agentOf(hub)
    await test.start()
    await poll(() => hub.failures.at(0)?.reason).toContain('does not list the authority')
    expect(hub.enrolments).toEqual([])
    // Told once, however often it tries again.
    const begun = () => hub.calls.filter(call => call === 'begin').length
    await poll(begun).toBeGreaterThan(3)
    expect(hub.failures.length).toBe(1)
  })

  it('marks a trust set taken without a pin as first use until it is confirmed', async () => {
    await using hub = await Hub.start(keys, made => {
      made.trust = chainOf(first)
    })
    await using test = await agentOf(hub)
    await test.start()
    await poll(() => hub.newest?.hello.trust?.firstUse).toBe(true)
    hub.newest?.send({ case: 'trust', value: { number: 1n, confirmedDigest: first.trust.digest } })
    await poll(() => hub.newest?.of('trust').at(-1)?.value).toMatchObject({ number: 1n, firstUse: false })
    await test.stop()
    await test.start()
    await poll(() => hub.sessions.length).toBe(2)
    expect(hub.newest?.hello.trust?.firstUse).toBe(false)
  })

  it('N20: waits for a coordinator that is not there, still starts, or has too much to do', async () => {
    const answers = [unavailable('starts'), new RpcError(status.RESOURCE_EXHAUSTED, 'too many strangers')]
    await using hub = await Hub.start(keys, made => {
      made.answer = request => {
        const error = answers.shift()
        if (error) throw error
        return made.admit(request.publicKey)
      }
    })
    hub.stop()
    await using test = await agentOf(hub)
    await test.start()
    await poll(() => test.reason).toContain('cannot be reached')
    await hub.listen()
    await poll(() => test.phase).toBe('connected')
    expect(hub.failures).toEqual([])
  })

  it('keeps asking after a refusal, without the token that was refused', async () => {
    await using hub = await Hub.start(keys, made => {
      made.answer = request => {
        if (request.tokenId === '') return made.admit(request.publicKey)
        return { case: 'refusal', value: { class: 'token-expired', reason: 'since yesterday' } }
      }
    })
    await using test = await agentOf(hub)
    const tokenFile = join(test.directory, 'token')
    await writeFile(tokenFile, `abc.s3cret.${keys.authority.pin}.`, { mode: 0o600 })
    test.configure({ tokenFile })
    await test.start()
    await poll(() => test.phase).toBe('connected')
    expect(hub.enrolments.map(request => request.tokenId)).toEqual(['abc', ''])
    expect(hub.failures.map(failure => failure.class)).toEqual(['token-expired'])
  })

  it('names a clock that is outside the server certificate’s dates, and sends nothing', async () => {
    await using hub = await Hub.start(keys)
    await using test = await agentOf(hub)
    await test.start({ clock: { now: () => new Date('2020-01-01T00:00:00Z') } })
    await poll(() => test.console()).toContain('clock: this machine’s clock says 2020-01-01')
    expect(hub.calls).toEqual([])
  })

  it('N17: asks for no certificate that it could not keep, and says so', async () => {
    await using hub = await Hub.start(keys, made => {
      made.answer = () => ({ case: 'waiting', value: { reason: 'an operator must look' } })
    })
    await using test = await agentOf(hub)
    await test.start()
    await poll(() => hub.enrolments.length).toBeGreaterThan(0)
    // The agent may write into it at this moment.
    await rm(test.stateDir, { recursive: true, maxRetries: 10 })
    await poll(() => hub.failures.at(-1)?.class).toBe('local')
    expect(hub.failures.at(-1)?.reason).toContain('cannot be written')
    const { length } = hub.enrolments
    const begun = () => hub.calls.filter(call => call === 'begin').length
    const before = begun()
    await poll(begun).toBeGreaterThan(before + 2)
    expect(hub.enrolments.length).toBe(length)
  })

  it('enrols without facts when they cannot be read, and says so in them', async () => {
    await using hub = await Hub.start(keys)
    await using test = await agentOf(hub)
    test.readFactsFails = 'no tool'
    await test.start()
    await poll(() => hub.enrolments.length).toBe(1)
    const facts = fromBinary(FactsSchema, hub.enrolments[0]?.facts ?? new Uint8Array())
    expect(facts.warnings).toEqual(['facts: not told: no tool'])
  })
})

describe('a session', () => {
  it('sends facts when the digest differs, keeps the acknowledged digest, and does not send them again', async () => {
    await using hub = await Hub.start(keys)
    await using test = await agentOf(hub)
    await test.start()
    await poll(() => hub.newest?.of('facts').length).toBe(1)
    hub.newest?.send({ case: 'factsAck', value: { digest: 'd'.repeat(64) } })
    await poll(() => test.state()).toMatchObject({ factsDigest: 'd'.repeat(64) })
    // Not the digest that was sent, so the next session offers them again; the right one ends it.
    hub.newest?.out.close()
    await poll(() => hub.sessions.length).toBe(2)
    expect(hub.newest?.hello.factsDigest).toBe('d'.repeat(64))
    await poll(() => hub.newest?.of('facts').length).toBe(1)
    const digest = sha256Hex(hub.newest?.of('facts')[0]?.value.facts ?? '')
    hub.newest?.send({ case: 'factsAck', value: { digest } })
    await poll(() => test.state()).toMatchObject({ factsDigest: digest })
    hub.newest?.out.close()
    await poll(() => hub.sessions.length).toBe(3)
    // Facts would be sent before the first.
    await poll(() => hub.newest?.of('heartbeat').length).toBeGreaterThan(0)
    expect(hub.newest?.of('facts')).toEqual([])
    hub.newest?.send({ case: 'factsRequest', value: {} })
    await poll(() => hub.newest?.of('facts').length).toBe(1)
    hub.newest?.send({ case: 'factsAck', value: { digest } })
    hub.newest?.send({ case: 'factsRequest', value: {} })
    await poll(() => hub.newest?.of('facts').length).toBe(2)
  })

  it('comes back as the same instance after the coordinator restarts', async () => {
    await using hub = await Hub.start(keys)
    await using test = await agentOf(hub)
    await test.start()
    await poll(() => test.phase).toBe('connected')
    hub.stop()
    await poll(() => test.phase).toBe('connecting')
    await hub.listen()
    await poll(() => hub.sessions.length).toBe(2)
    expect(hub.sessions[1]?.hello.instance).toBe(hub.sessions[0]?.hello.instance)
    expect(hub.sessions[1]?.hello.bootCount).toBe(hub.sessions[0]?.hello.bootCount)
  })

  it('T7: answers a challenge at once and stays connected', async () => {
    await using hub = await Hub.start(keys, made => {
      made.heartbeatMs = 60_000
    })
    await using test = await agentOf(hub)
    await test.start()
    await poll(() => test.phase).toBe('connected')
    hub.newest?.send({ case: 'challenge', value: { reason: 'two sessions' } })
    await poll(() => hub.newest?.of('heartbeat').length).toBe(1)
    expect(hub.sessions.length).toBe(1)
    expect(test.phase).toBe('connected')
  })

  it('gives up a connection on which nobody answers its heartbeats', async () => {
    await using hub = await Hub.start(keys, made => {
      made.acknowledges = false
      made.heartbeatMs = 100
    })
    await using test = await agentOf(hub)
    await test.start()
    await poll(() => hub.sessions.length).toBeGreaterThan(1)
    expect(test.lines.join('')).toContain('was silent for')
    hub.acknowledges = true
    // Where the session that is open is given up too, the next one has time for its answers.
    hub.heartbeatMs = 500
    const { length } = hub.sessions
    await poll(() => hub.newest?.of('heartbeat').length).toBeGreaterThan(6)
    expect(hub.sessions.length).toBeLessThanOrEqual(length + 1)
  })

  it('is shown as refused when its certificate is no longer taken, and returns when it may', async () => {
    let evicted = false
    await using hub = await Hub.start(keys, made => {
      made.onHello = () => {
        if (evicted) throw denied('evicted by alice')
      }
      made.answer = request =>
        evicted
          ? { case: 'refusal', value: { class: 'evicted', reason: 'by alice', retry: false } }
          : made.admit(request.publicKey)
    })
    await using test = await agentOf(hub)
    await test.start()
    await poll(() => test.phase).toBe('connected')
    evicted = true
    hub.newest?.out.close()
    await poll(() => test.reason).toBe('evicted: by alice')
    expect(test.phase).toBe('refused')
    evicted = false
    await poll(() => test.phase).toBe('connected')
  })

  it('renews its certificate in good time, without a restart and as the same instance', async () => {
    await using hub = await Hub.start(keys, made => {
      made.certificateMs = 4_000
    })
    await using test = await agentOf(hub)
    await test.start()
    await poll(() => test.phase).toBe('connected')
    const before = await readFile(test.file('certificate.pem'), 'utf8')
    hub.certificateMs = 86_400_000
    await poll(() => hub.renewals.length).toBe(1)
    await poll(() => hub.sessions.length).toBe(2)
    expect(hub.sessions[1]?.hello.instance).toBe(hub.sessions[0]?.hello.instance)
    expect(await readFile(test.file('certificate.pem'), 'utf8')).not.toBe(before)
    expect(hub.enrolments.length).toBe(1)
  })

  it('goes back to the enrolment listener when its certificate runs out under a session', async () => {
    await using hub = await Hub.start(keys, made => {
      made.certificateMs = 2_500
      made.renews = false
    })
    await using test = await agentOf(hub)
    await test.start()
    await poll(() => test.phase).toBe('connected')
    hub.certificateMs = 86_400_000
    await poll(() => hub.enrolments.length).toBe(2)
    await poll(() => hub.sessions.length).toBe(2)
    expect(hub.renewals.length).toBeGreaterThan(1)
    expect(hub.enrolments[1]?.publicKey).toEqual(hub.enrolments[0]?.publicKey)
  })

  it('N19: comes back by its key alone after its certificate ran out, with the token file gone', async () => {
    await using hub = await Hub.start(keys)
    await using test = await AgentUnderTest.prepare({ coordinator: hub.coordinator })
    const tokenFile = join(test.directory, 'token')
    await writeFile(tokenFile, `abc.s3cret.${keys.authority.pin}.`, { mode: 0o600 })
    test.configure({ tokenFile })
    const { machine } = await test.start()
    await poll(() => test.phase).toBe('connected')
    await test.stop()
    hub.certificateMs = -1_000
    const key = hub.enrolments[0]?.publicKey ?? new Uint8Array()
    await writeFile(test.file('certificate.pem'), hub.issue(key))
    hub.certificateMs = 86_400_000
    await rm(tokenFile)
    expect((await test.start()).machine).toBe(machine)
    await poll(() => test.phase).toBe('connected')
    expect(hub.enrolments.map(request => request.tokenId)).toEqual(['abc', ''])
  })

  it('answers the question for its facts, and refuses one it does not know', async () => {
    await using hub = await Hub.start(keys)
    await using test = await agentOf(hub)
    await test.start()
    await poll(() => test.phase).toBe('connected')
    test.serial = 'S2'
    hub.newest?.send({
      case: 'probe',
      value: { probeId: 'p1', kind: 'facts', deadline: durationFromMs(5_000) },
    })
    hub.newest?.send({ case: 'probe', value: { probeId: 'p2', kind: 'shell' } })
    await poll(() => hub.newest?.of('probeAnswer').length).toBe(2)
    const answers = new Map(hub.newest?.of('probeAnswer').map(({ value }) => [value.probeId, value]))
    expect(JSON.parse(answers.get('p1')?.json ?? '')).toMatchObject({ system: { serial: 'S2' } })
    expect(answers.get('p2')?.error).toContain('does not know the question "shell"')
  })

  it('keeps an order’s report until it is acknowledged, over a restart', async () => {
    await using hub = await Hub.start(keys)
    await using test = await agentOf(hub, { allow: [] })
    await test.start()
    await poll(() => test.phase).toBe('connected')
    hub.newest?.send({
      case: 'order',
      value: {
        operationId: 'op-1',
        revision: 1n,
        manifestDigest: sha256Hex('x'),
        expires: timestampFromDate(new Date(Date.now() + 3_600_000)),
      },
    })
    await poll(() => hub.newest?.of('operation').at(-1)?.value.outcome?.refusal).toBe('not-allowed')
    await test.stop()
    await test.start()
    await poll(() => hub.sessions.length).toBe(2)
    await poll(() => hub.newest?.of('operation').at(-1)?.value.outcome?.refusal).toBe('not-allowed')
    expect(hub.newest?.hello.journalSequence).toBeGreaterThan(0n)
    // What tells a coordinator at once that its store was set back.
    expect(hub.newest?.hello.untold.map(({ operationId }) => operationId)).toEqual(['op-1'])
    expect(hub.newest?.hello).toMatchObject({ acknowledged: 0n })
    expect(hub.newest?.hello.auditHead).toBeUndefined()
    const sequence = hub.newest?.of('operation').at(-1)?.value.phases.at(-1)?.sequence ?? 0n
    hub.newest?.send({ case: 'operationAck', value: { operationId: 'op-1', sequence, outcome: true } })
    hub.newest?.send({ case: 'auditHead', value: { id: 7n, hash: sha256Hex('seven') } })
    await poll(async () => await readFile(join(test.stateDir, 'state.json'), 'utf8')).toContain(
      sha256Hex('seven'),
    )
    await test.stop()
    await test.start()
    await poll(() => hub.sessions.length).toBe(3)
    expect(sequence).toBeGreaterThan(0n)
    expect(hub.newest?.hello).toMatchObject({
      acknowledged: sequence,
      untold: [],
      auditHead: { id: 7n, hash: sha256Hex('seven') },
    })
  })
})

describe('trust', () => {
  it('goes to another address of the trust set when the one it was told does not answer', async () => {
    await using hub = await Hub.start(keys)
    const set = makeFirstTrustSet({
      fleetId: '0123456789abcdef0123456789abcdef',
      created: new Date(),
      keys: [{ key: signer, comment: '' }],
      threshold: 1,
      recoveryKeys: [],
      caPins: [],
      coordinators: ['127.0.0.1:1', `127.0.0.1:${hub.fleetPort}`],
      signers: [signer],
    })
    hub.trust = chainOf(set)
    hub.answer = request => ({
      case: 'certificate',
      value: { chainPem: hub.issue(request.publicKey), fleetAddress: '127.0.0.1:2' },
    })
    await using test = await agentOf(hub)
    await test.start()
    await poll(() => test.phase).toBe('connected')
    expect(test.agent?.board.coordinator).toBe(`127.0.0.1:${hub.fleetPort}`)
  })

  it('walks up to a newer set, and follows the fleet to the authority which that set lists', async () => {
    await using hub = await Hub.start(keys, made => {
      made.trust = chainOf(first)
    })
    await using test = await agentOf(hub, { trustPin: first.trust.digest })
    await test.start()
    await poll(() => test.phase).toBe('connected')
    const next = makeNextTrustSet({
      current: first.trust,
      change: { caPins: [keys.authority.pin, keys.other.pin] },
      created: new Date(),
      signers: [signer],
    })
    hub.trust = chainOf(first, next)
    hub.newest?.send({ case: 'trust', value: { number: 2n } })
    await poll(() => hub.newest?.of('trust').at(-1)?.value).toMatchObject({
      number: 2n,
      digest: next.trust.digest,
      firstUse: false,
    })
    hub.stop()
    hub.authority = keys.other
    await hub.listen()
    await poll(() => hub.sessions.length).toBe(2)
    expect((await test.state()).authorities).toHaveLength(2)
    expect(hub.newest?.hello.trust?.number).toBe(2n)
  })

  it('does not follow to an authority which nobody listed, and tells why', async () => {
    await using hub = await Hub.start(keys, made => {
      made.trust = chainOf(first)
    })
    await using test = await agentOf(hub)
    await test.start()
    await poll(() => test.phase).toBe('connected')
    hub.stop()
    hub.authority = keys.other
    await hub.listen()
    const calls = hub.calls.length
    await poll(() => test.reason).toContain('pin: the server shows the authority')
    expect(hub.calls.length).toBe(calls)
  })

  it('refuses a set that its keys did not sign, keeps the old one, and lets an operator see it', async () => {
    await using hub = await Hub.start(keys, made => {
      made.trust = chainOf(first)
    })
    await using test = await agentOf(hub)
    await test.start()
    await poll(() => test.phase).toBe('connected')
    const stranger = generateSigningKey()
    const strange = firstTrust(stranger)
    const forged = makeNextTrustSet({
      current: strange.trust,
      change: {},
      created: new Date(),
      signers: [stranger],
    })
    hub.trust = chainOf(first, forged)
    hub.newest?.send({ case: 'trust', value: { number: 2n } })
    await poll(() => hub.newest?.of('event').at(-1)?.value.class).toBe('trust')
    expect(hub.newest?.of('trust')).toEqual([])
    // Read by the coordinator, as its acknowledgement of a later heartbeat shows.
    await poll(() => test.state()).toMatchObject({ events: [] })
  })

  it('lets root replace the set by hand, over the socket alone, and reports it', async () => {
    await using hub = await Hub.start(keys, made => {
      made.trust = chainOf(first)
    })
    await using test = await agentOf(hub)
    await test.start()
    await poll(() => test.phase).toBe('connected')
    expect((await stat(test.socket)).mode & 0o777).toBe(0o600)
    const lost = firstTrust(generateSigningKey())
    using client = createClient(LocalService, `unix:${test.socket}`, credentials.createInsecure())
    expect(await client.getStatus({})).toMatchObject({
      state: 'connected',
      trustNumber: 1n,
      trustFirstUse: true,
    })
    await expect(client.setTrust({ trust: { envelopes: [] } })).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
    })
    expect(await client.setTrust({ trust: chainOf(lost) })).toMatchObject({ digest: lost.trust.digest })
    await poll(() => hub.newest?.hello.trust?.digest).toBe(lost.trust.digest)
    await poll(() => hub.newest?.of('event').at(-1)?.value.class).toBe('trust-set-by-hand')
  })
})
