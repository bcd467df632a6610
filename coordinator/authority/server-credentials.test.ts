import { X509Certificate } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createSecureServer } from 'node:http2'
import { createServer, type Server as NetServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import {
  type ChannelCredentials,
  makeGenericClientConstructor,
  Server,
  type ServiceError,
  status,
} from '@grpc/grpc-js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Disposers } from '../../shared/lifecycle.ts'
import { createAuthority, openAuthority } from '../../shared/x509/authority.ts'
import { createClientCredentials } from '../../shared/x509/client-credentials.ts'
import { issueCertificate } from '../../shared/x509/issue-certificate.ts'
import { keyId } from '../../shared/x509/key-id.ts'
import { type GeneratedKey, generateMachineKey } from '../../shared/x509/machine-key.ts'
import { readPeerIdentity } from '../../shared/x509/peer-identity.ts'
import { verifyPinnedChain } from '../../shared/x509/pinned-chain.ts'
import { readServerChain } from '../../shared/x509/server-chain.ts'
import { type Authorities, openAuthorities } from './authorities.ts'
import { AUTHORITY_FILE } from './authority-file.ts'
import { type RefusedHandshake, watchRefusedHandshakes } from './refused-handshakes.ts'
import { createRenewableServerCredentials } from './server-credentials.ts'

const clock = { now: () => new Date() }
const day = 86_400_000
let folder: string
let key: GeneratedKey
let authorities: Authorities
let count = 0

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'muster-credentials-'))
  key = await generateMachineKey(2048)
  authorities = await openAuthorities(join(folder, 'shared'), { clock, names: [] })
})
afterAll(async () => {
  await authorities[Symbol.asyncDispose]()
  await rm(folder, { recursive: true, force: true })
})

const bytes = { requestSerialize: (b: Buffer) => b, requestDeserialize: (b: Buffer) => b }
const who = {
  who: {
    path: '/test.Test/Who',
    requestStream: false,
    responseStream: false,
    ...bytes,
    responseSerialize: (b: Buffer) => b,
    responseDeserialize: (b: Buffer) => b,
  },
} as const

/** A gRPC server that answers with the kind and id of its caller, as TLS proved them. */
async function startServer(from: Authorities, requireClientCertificate: boolean) {
  const server = new Server()
  server.addService(who, {
    who: (
      call: { getAuthContext(): { sslPeerCertificate?: { raw: Buffer } } },
      done: (e: null, b: Buffer) => void,
    ) => {
      const raw = call.getAuthContext().sslPeerCertificate?.raw
      const reading = raw && readPeerIdentity(raw)
      done(null, Buffer.from(reading?.ok ? `${reading.identity.kind} ${reading.identity.id}` : 'stranger'))
    },
  })
  const credentials = createRenewableServerCredentials(from, { requireClientCertificate })
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', credentials, (error, port) => (error ? reject(error) : resolve(port)))
  })
  const refusals: RefusedHandshake[] = []
  watchRefusedHandshakes(server, refusal => refusals.push(refusal))
  return { port, refusals, [Symbol.asyncDispose]: async () => server.forceShutdown() }
}

/** A client of its own connection, which stays open until it is disposed of. `name` is whom the server must prove to be. */
function openClient(port: number, credentials: ChannelCredentials, name = '127.0.0.1') {
  const Client = makeGenericClientConstructor(who, 'test.Test')
  const client = new Client(`127.0.0.1:${port}`, credentials, {
    'grpc.use_local_subchannel_pool': 1,
    'grpc.ssl_target_name_override': name,
  })
  const ask = () =>
    new Promise<string>((resolve, reject) => {
      const done = (error: ServiceError | null, answer?: Buffer) => {
        error ? reject(error) : resolve(String(answer))
      }
      client.makeUnaryRequest(
        who.who.path,
        (b: Buffer) => b,
        (b: Buffer) => b,
        Buffer.alloc(0),
        { deadline: Date.now() + 5000 },
        done,
      )
    })
  return { ask, [Symbol.dispose]: () => client.close() }
}

async function askOnce(port: number, credentials: ChannelCredentials, name?: string): Promise<string> {
  using client = openClient(port, credentials, name)
  return await client.ask()
}

const caOf = (from: Authorities) => from.list().map(({ certificatePem }) => certificatePem)
const refused = { code: status.UNAVAILABLE }

function machine(from: Authorities, caPem = caOf(from)) {
  const issued = from.issueMachine(key.publicKeyDer)
  if (!issued.ok) throw new Error(issued.reason)
  const identity = { chainPem: issued.certificate.chainPem, privateKeyPem: key.privateKeyPem }
  return createClientCredentials({ caPem, identity })
}

/** The first authority of a folder, to issue what the coordinator never would. */
async function authorityOf(directory: string) {
  const [material] = JSON.parse(await readFile(join(directory, AUTHORITY_FILE), 'utf8')).authorities
  return openAuthority(material)
}

async function clientOf(dates: { notBefore: Date; notAfter: Date }, kind: 'machine' | 'server' = 'machine') {
  const { chainPem } = issueCertificate({
    authority: await authorityOf(join(folder, 'shared')),
    subject: { kind, id: keyId(key.publicKeyDer) },
    publicKeyDer: key.publicKeyDer,
    ...dates,
  })
  return createClientCredentials({
    caPem: caOf(authorities),
    identity: { chainPem, privateKeyPem: key.privateKeyPem },
  })
}

describe('the fleet listener', () => {
  it('lets in machines and operators over mutual TLS and tells them apart', async () => {
    await using server = await startServer(authorities, true)
    const id = keyId(key.publicKeyDer)
    expect(await askOnce(server.port, machine(authorities))).toBe(`machine ${id}`)
    const operator = authorities.issueOperator(key.publicKeyDer, 'Anna')
    if (!operator.ok) throw new Error(operator.reason)
    const identity = { chainPem: operator.certificate.chainPem, privateKeyPem: key.privateKeyPem }
    const credentials = createClientCredentials({ caPem: caOf(authorities), identity })
    expect(await askOnce(server.port, credentials, 'localhost')).toBe(`operator ${id}`)
  })

  it('refuses at TLS who has no certificate, one of another authority, one out of date, or a server’s', async () => {
    await using server = await startServer(authorities, true)
    const now = Date.now()
    await expect(
      askOnce(server.port, createClientCredentials({ caPem: caOf(authorities) })),
    ).rejects.toMatchObject(refused)
    const strangerDates = { notBefore: new Date(now - day), notAfter: new Date(now + day), bits: 2048 }
    const stranger = openAuthority(await createAuthority(strangerDates))
    const { chainPem } = issueCertificate({
      authority: stranger,
      subject: { kind: 'machine', id: keyId(key.publicKeyDer) },
      publicKeyDer: key.publicKeyDer,
      notBefore: new Date(now - day),
      notAfter: new Date(now + day),
    })
    const identity = { chainPem, privateKeyPem: key.privateKeyPem }
    const foreign = createClientCredentials({ caPem: caOf(authorities), identity })
    await expect(askOnce(server.port, foreign)).rejects.toMatchObject(refused)

    const expired = { notBefore: new Date(now - 2 * 3600_000), notAfter: new Date(now - 1000) }
    const early = { notBefore: new Date(now + 3600_000), notAfter: new Date(now + 2 * 3600_000) }
    const good = { notBefore: new Date(now - 3600_000), notAfter: new Date(now + 3600_000) }
    await expect(askOnce(server.port, await clientOf(expired))).rejects.toMatchObject(refused)
    await expect(askOnce(server.port, await clientOf(early))).rejects.toMatchObject(refused)
    await expect(askOnce(server.port, await clientOf(good, 'server'))).rejects.toMatchObject(refused)
    const reasons = () => [...new Set(server.refusals.map(({ reason }) => reason))].sort()
    await expect
      .poll(reasons)
      .toEqual([
        'CERT_HAS_EXPIRED',
        'CERT_NOT_YET_VALID',
        'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE',
        'INVALID_PURPOSE',
        'SELF_SIGNED_CERT_IN_CHAIN',
      ])
    expect(new Set(server.refusals.map(({ remoteAddress }) => remoteAddress))).toEqual(new Set(['127.0.0.1']))
    // A client that was refused may have tried again meanwhile; what a good one would be refused for is none of these.
    const known = reasons()
    expect(await askOnce(server.port, await clientOf(good))).toMatch(/^machine /)
    expect(reasons()).toEqual(known)
  })

  it('lets a machine in no longer once its certificate has expired', async () => {
    const lifetimes = { machineMs: 2000 }
    await using short = await openAuthorities(join(folder, `short-${count++}`), {
      clock,
      names: [],
      lifetimes,
    })
    await using server = await startServer(short, true)
    const credentials = machine(short)
    expect(await askOnce(server.port, credentials)).toMatch(/^machine /)
    await expect
      .poll(() => askOnce(server.port, credentials).catch((error: ServiceError) => error.code), {
        timeout: 10_000,
      })
      .toBe(status.UNAVAILABLE)
  })
})

describe('the enrolment listener', () => {
  it('N16: serves strangers, and shows the authority in its chain, so that the pin can be proved', async () => {
    await using server = await startServer(authorities, false)
    const chain = await readServerChain({ host: '127.0.0.1', port: server.port, timeoutMs: 5000 })
    const proved = verifyPinnedChain(chain, authorities.shownPin, '127.0.0.1', new Date())
    if (!proved.ok) throw new Error(proved.reason)
    expect(await askOnce(server.port, createClientCredentials({ caPem: [proved.caPem] }))).toBe('stranger')
    expect(verifyPinnedChain(chain, 'ab'.repeat(32), '127.0.0.1', new Date())).toMatchObject({ fault: 'pin' })
  })

  it('does not take a certificate for proof that it never asked for', async () => {
    await using server = await startServer(authorities, false)
    expect(await askOnce(server.port, machine(authorities))).toBe('stranger')
  })

  it('gives its chain to nobody who waits for ever', async () => {
    const silent = createServer(() => {})
    await using disposers = new Disposers()
    disposers.defer(() => silent.close())
    const port = await listen(silent)
    await expect(readServerChain({ host: '127.0.0.1', port, timeoutMs: 200 })).rejects.toThrow('200 ms')
  })
})

describe('the client', () => {
  it('refuses a server of another authority, one for another name, and a machine that plays the server', async () => {
    const directory = join(folder, `other-${count++}`)
    await using other = await openAuthorities(directory, { clock, names: [] })
    await using server = await startServer(other, false)
    await expect(
      askOnce(server.port, createClientCredentials({ caPem: caOf(authorities) })),
    ).rejects.toMatchObject(refused)
    const trusting = createClientCredentials({ caPem: caOf(other) })
    expect(await askOnce(server.port, trusting)).toBe('stranger')
    await expect(askOnce(server.port, trusting, 'other.example')).rejects.toMatchObject({
      ...refused,
      details: expect.stringContaining('Hostname/IP does not match'),
    })

    const { chainPem } = issueCertificate({
      authority: await authorityOf(directory),
      subject: { kind: 'machine', id: keyId(key.publicKeyDer) },
      publicKeyDer: key.publicKeyDer,
      notBefore: new Date(Date.now() - day),
      notAfter: new Date(Date.now() + day),
      sans: [{ kind: 'ip', value: '127.0.0.1' }],
    })
    const impostor = createSecureServer({ key: key.privateKeyPem, cert: chainPem })
    await using disposers = new Disposers()
    disposers.defer(() => impostor.close())
    const port = await listen(impostor)
    await expect(askOnce(port, trusting)).rejects.toMatchObject({
      ...refused,
      details: expect.stringContaining('unsuitable certificate purpose'),
    })
  })

  it('N43: trusts nobody rather than the system’s roots when it is given no authority', () => {
    expect(() => createClientCredentials({ caPem: [] })).toThrow('caPem')
    expect(() => createClientCredentials({ caPem: [''] })).toThrow('caPem')
  })
})

describe('a running listener', () => {
  it('shows a renewed certificate to the next connection and keeps the connections it has', async () => {
    let now = Date.now() - 21 * day
    const moving = { now: () => new Date(now) }
    await using own = await openAuthorities(join(folder, `own-${count++}`), { clock: moving, names: [] })
    await using server = await startServer(own, true)
    using client = openClient(server.port, machine(own))
    await client.ask()
    const serial = async () => {
      const [leaf] = await readServerChain({ host: '127.0.0.1', port: server.port, timeoutMs: 5000 })
      return new X509Certificate(leaf ?? '').serialNumber
    }
    const first = await serial()
    expect(await serial()).toBe(first)
    now = Date.now()
    expect(await own.renewIfDue()).toBe(true)
    expect(await serial()).not.toBe(first)
    expect(await client.ask()).toMatch(/^machine /)
    expect(await askOnce(server.port, machine(own))).toMatch(/^machine /)

    await expect(askOnce(server.port, machine(own), 'new.example')).rejects.toMatchObject(refused)
    await own.setNames(['new.example'])
    expect(await askOnce(server.port, machine(own), 'new.example')).toMatch(/^machine /)
    expect(await client.ask()).toMatch(/^machine /)
  })

  it('never locks out a machine that knows the old pin before the old authority is dropped, nor one that knows both', async () => {
    await using own = await openAuthorities(join(folder, `own-${count++}`), { clock, names: [] })
    await using fleet = await startServer(own, true)
    await using enrolment = await startServer(own, false)
    const [old] = own.list()
    if (!old) throw new Error('no authority')
    const oldMachine = machine(own, [old.certificatePem])
    const added = await own.add()
    if (!added.ok) throw new Error(added.reason)
    const proves = async (pins: string[]) => {
      const chain = await readServerChain({ host: '127.0.0.1', port: enrolment.port, timeoutMs: 5000 })
      return verifyPinnedChain(chain, pins, '127.0.0.1', new Date()).ok
    }
    for (const step of ['added', 'switched']) {
      if (step === 'switched') await own.switchTo(added.pin)
      expect(await askOnce(fleet.port, oldMachine), step).toMatch(/^machine /)
      expect(await askOnce(fleet.port, machine(own, [old.certificatePem])), step).toMatch(/^machine /)
      expect(await askOnce(fleet.port, machine(own)), step).toMatch(/^machine /)
      expect(await proves([old.pin]), step).toBe(true)
      expect(await proves([old.pin, added.pin]), step).toBe(true)
    }
    const newMachine = machine(own)
    await own.drop(old.pin)
    expect(await askOnce(fleet.port, newMachine)).toMatch(/^machine /)
    expect(await proves([old.pin, added.pin])).toBe(true)
    expect(await proves([old.pin])).toBe(false)
    await expect(askOnce(fleet.port, oldMachine)).rejects.toMatchObject(refused)
  })

  it('resumes no session, so no handshake skips the check of the client’s certificate', async () => {
    await using server = await startServer(authorities, true)
    const issued = authorities.issueMachine(key.publicKeyDer)
    if (!issued.ok) throw new Error(issued.reason)
    const options: ConnectionOptions = {
      host: '127.0.0.1',
      port: server.port,
      ca: caOf(authorities),
      cert: issued.certificate.chainPem,
      key: key.privateKeyPem,
      ALPNProtocols: ['h2'],
    }
    const sessions: Buffer[] = []
    const first = await secured(options, socket => socket.on('session', session => sessions.push(session)))
    // HTTP/2's preface makes the server answer, so what it sends after the handshake has arrived by then.
    first.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0', 'binary')
    await new Promise(resolve => first.once('data', resolve))
    first.destroy()
    for (const session of sessions) {
      const again = await secured({ ...options, session })
      expect(again.isSessionReused()).toBe(false)
      again.destroy()
    }
    expect(sessions.length).toBeGreaterThan(0)
  })

  it('speaks nothing older than TLS 1.3, after a renewal too', async () => {
    await using own = await openAuthorities(join(folder, `own-${count++}`), { clock, names: [] })
    await using server = await startServer(own, false)
    const old = { host: '127.0.0.1', port: server.port, ca: caOf(own), maxVersion: 'TLSv1.2' as const }
    await expect(secured({ ...old, ALPNProtocols: ['h2'] })).rejects.toThrow(/protocol version/)
    await own.setNames(['renewed.example'])
    await expect(secured({ ...old, ALPNProtocols: ['h2'] })).rejects.toThrow(/protocol version/)
  })
})

function secured(options: ConnectionOptions, prepare?: (socket: TLSSocket) => void): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = connect(options)
    prepare?.(socket)
    socket.once('error', reject)
    socket.once('secureConnect', () => resolve(socket))
  })
}

function listen(server: NetServer): Promise<number> {
  return new Promise((resolve, reject) => {
    server.listen(0, '127.0.0.1', () => {
      const address = server.address()
      address !== null && typeof address === 'object' ? resolve(address.port) : reject(new Error('no port'))
    })
  })
}
