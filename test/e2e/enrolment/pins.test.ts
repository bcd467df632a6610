import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { createServer as createPlainServer } from 'node:net'
import { createServer, type TLSSocket } from 'node:tls'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createAuthority, openAuthority } from '../../../shared/x509/authority.ts'
import { issueCertificate } from '../../../shared/x509/issue-certificate.ts'
import { keyId } from '../../../shared/x509/key-id.ts'
import { generateMachineKey } from '../../../shared/x509/machine-key.ts'
import { type AgentProcess, type Fleet, startFleet } from '../../support/fleet.ts'
import { addOperator, type Operator } from '../../support/operator.ts'
import {
  events,
  idOf,
  makeToken,
  shownMachine,
  until,
  untilConsole,
  untilEvent,
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

/** A server that speaks TLS with a certificate of its own authority and writes down every byte that follows. */
async function recordingServer() {
  const day = 86_400_000
  const dates = { notBefore: new Date(Date.now() - day), notAfter: new Date(Date.now() + day) }
  const authority = openAuthority(await createAuthority({ ...dates, bits: 2048 }))
  const key = await generateMachineKey(2048)
  const { chainPem } = issueCertificate({
    authority,
    subject: { kind: 'server', id: keyId(key.publicKeyDer) },
    publicKeyDer: key.publicKeyDer,
    ...dates,
    sans: [{ kind: 'ip', value: '127.0.0.1' }],
  })
  const seen = { connections: 0, bytes: 0 }
  const server = createServer(
    { cert: chainPem, key: key.privateKeyPem, ALPNProtocols: ['h2'], minVersion: 'TLSv1.3' },
    (socket: TLSSocket) => {
      socket.on('data', data => {
        seen.bytes += data.length
      })
      socket.on('error', () => {})
    },
  )
  server.on('tlsClientError', () => {})
  server.on('connection', () => {
    seen.connections += 1
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const bound = server.address()
  const port = typeof bound === 'object' && bound ? bound.port : 0
  return { seen, address: `127.0.0.1:${port}`, pin: authority.pin, close: () => server.close() }
}

async function stop(agent: AgentProcess): Promise<void> {
  await agent.kill('SIGTERM')
}

describe('a coordinator that is not the one', () => {
  it('a server with another authority gets not one byte after the handshake, and the console says why', async () => {
    const impostor = await recordingServer()
    const agent = await fleet.addAgent('wrong-server', {
      token: await makeToken(fleet),
      config: { coordinator: impostor.address },
    })
    const console = await untilConsole(agent, /pin: the server shows the authority/)
    expect(console).toContain(impostor.pin)
    expect(console).toContain(await fleet.caPin())
    await until('several attempts', () => (impostor.seen.connections >= 3 ? true : undefined))
    expect(impostor.seen.bytes).toBe(0)
    await stop(agent)
    impostor.close()
  })

  it('the recording server does record: with its own pin bytes do come', async () => {
    const impostor = await recordingServer()
    const agent = await fleet.addAgent('believes', {
      config: { coordinator: impostor.address, caPin: impostor.pin },
    })
    await until('bytes', () => (impostor.seen.bytes > 0 ? true : undefined))
    await stop(agent)
    impostor.close()
  })

  it('with a wrong CA pin the true coordinator is not believed either, and learns nothing', async () => {
    const before = (await events(fleet)).length
    const agent = await fleet.addAgent('wrong-pin', { config: { caPin: 'ab'.repeat(32) } })
    const console = await untilConsole(agent, /pin: the server shows the authority/)
    expect(console).toContain('nothing was sent to it')
    const id = await idOf(agent)
    await stop(agent)
    expect(await shownMachine(fleet, id)).toBeUndefined()
    expect((await events(fleet)).filter(({ machine }) => machine === id)).toEqual([])
    expect((await events(fleet)).length).toBe(before)
  })

  it('with a wrong trust pin a machine does not enrol, and the operator is shown why', async () => {
    const agent = await fleet.addAgent('wrong-trust', { config: { trustPin: 'cd'.repeat(32) } })
    const id = await idOf(agent)
    await untilEvent(fleet, id, 'enrolment-failed', /^trust: .*claimed by 127\.0\.0\.1/)
    await untilConsole(agent, /trust/)
    expect(await shownMachine(fleet, id)).toBeUndefined()
    await stop(agent)
  })

  it('a trust set that does not list the authority in use is not taken', async () => {
    await using other = await startFleet()
    await using keys = await addOperator(other)
    const { caPins } = keys.trust.trust.set
    expect(caPins).toEqual([])
    await expect(
      other.api.setFleetTrust({
        trust: {
          envelopes: [...keys.chain().envelopes, keys.nextTrust({ caPins: ['ef'.repeat(32)] }).envelope],
        },
      }),
    ).rejects.toThrow(/does not list the authority that this coordinator shows/)
  })

  it('T10: neither side speaks without TLS', async () => {
    let plain = ''
    const server = createPlainServer(socket => {
      socket.on('data', data => {
        plain += data.toString('latin1')
      })
      socket.on('error', () => {})
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const bound = server.address()
    const port = typeof bound === 'object' && bound ? bound.port : 0
    const agent = await fleet.addAgent('plain', { config: { coordinator: `127.0.0.1:${port}` } })
    await until('a connection', () => (plain.length > 0 ? true : undefined))
    // A TLS record of type handshake, and no HTTP of any kind.
    expect(plain.charCodeAt(0)).toBe(0x16)
    expect(plain).not.toContain('PRI * HTTP')
    await stop(agent)
    server.close()
    for (const listener of [fleet.enrolmentPort, fleet.fleetPort]) {
      await expect(fetch(`http://127.0.0.1:${listener}/`)).rejects.toThrow()
    }
  })

  it('the authority that is pinned is the authority that signs', async () => {
    const { authorityPem, caPin } = await fleet.api.getFleet({})
    const key = new X509Certificate(authorityPem).publicKey.export({ type: 'spki', format: 'der' })
    expect(keyId(key)).toBe(caPin)
  })
})
