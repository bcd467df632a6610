import { once } from 'node:events'
import { type ClientHttp2Session, connect } from 'node:http2'
import { status } from '@grpc/grpc-js'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { AgentService } from '../../../shared/gen/muster/v1/agent_pb.ts'
import { OperatorService } from '../../../shared/gen/muster/v1/operator_pb.ts'
import { createClient, type RpcClient } from '../../../shared/rpc/client.ts'
import { RpcError } from '../../../shared/rpc/rpc-error.ts'
import { createClientCredentials } from '../../../shared/x509/client-credentials.ts'
import { generateMachineKey } from '../../../shared/x509/machine-key.ts'
import { type Fleet, startFleet } from '../../support/fleet.ts'
import { RawMachine } from '../../support/raw-machine.ts'
import { makeToken } from '../../support/shown.ts'

let fleet: Fleet
beforeAll(async () => {
  fleet = await startFleet()
})
afterAll(() => fleet?.[Symbol.asyncDispose]())
afterEach(() => vi.unstubAllEnvs())

async function operator(name: string, seconds: number): Promise<RpcClient<typeof OperatorService>> {
  const { publicKeyDer, privateKeyPem } = await generateMachineKey(2048)
  const { chainPem, authorityPem } = await fleet.api.addOperator({
    name,
    publicKey: publicKeyDer,
    lifetime: { seconds: BigInt(seconds), nanos: 0 },
  })
  const credentials = createClientCredentials({
    caPem: [authorityPem],
    identity: { chainPem, privateKeyPem },
  })
  return createClient(OperatorService, `127.0.0.1:${fleet.fleetPort}`, credentials)
}

async function stranger(): Promise<ClientHttp2Session> {
  const session = connect(`https://127.0.0.1:${fleet.enrolmentPort}`, { rejectUnauthorized: false })
  await once(session, 'remoteSettings')
  return session
}

describe('what a stranger may hold open', () => {
  it('is a few streams a connection, and no message larger than an enrolment', async () => {
    const session = await stranger()
    expect(session.remoteSettings.maxConcurrentStreams).toBeLessThanOrEqual(16)
    session.destroy()
    const raw = await RawMachine.make(fleet)
    using client = await raw.enrolmentClient()
    const error = await client.enrol({ facts: new Uint8Array(200 * 1024) }).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: status.RESOURCE_EXHAUSTED })
  })
})

describe('a certificate that ends while its connection is open', () => {
  it('lets its operator call no more', async () => {
    using client = await operator('brief', 4)
    expect((await client.getFleet({})).caPin).toBe(await fleet.caPin())
    const refused = async () => {
      const error = await client.getFleet({}).catch((thrown: unknown) => thrown)
      return error instanceof RpcError ? `${status[error.code]} ${error.message}` : 'answered'
    }
    await expect.poll(refused, { timeout: 15_000 }).toMatch(/^UNAUTHENTICATED certificate: has ended/)
  })
})

describe('a proxy in the environment', () => {
  it('has no say in how a coordinator is reached', async () => {
    const raw = await RawMachine.make(fleet)
    for (const name of ['grpc_proxy', 'https_proxy', 'http_proxy']) vi.stubEnv(name, 'http://127.0.0.1:9')
    expect((await raw.enrol({ token: await makeToken(fleet) })).case).toBe('certificate')
    using client = await raw.fleetClient(AgentService)
    expect(await client.getTrust({})).toBeDefined()
  })
})
