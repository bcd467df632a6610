import { once } from 'node:events'
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2'
import { connect, type Socket } from 'node:net'
import { credentials, ServerCredentials } from '@grpc/grpc-js'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import {
  Health,
  HealthCheckResponse_ServingStatus as Serving,
} from '../shared/gen/grpc/health/v1/health_pb.ts'
import { pause } from '../shared/lifecycle.ts'
import { createClient } from '../shared/rpc/client.ts'
import { serve } from '../shared/rpc/serve.ts'
import { createRenewableServerCredentials } from './authority/server-credentials.ts'
import { type ListenerOptions, openListener, STRANGERS } from './listener.ts'
import { openTestAuthorities } from './machines/testing/test-fleet.ts'

let made: Awaited<ReturnType<typeof openTestAuthorities>>
beforeAll(async () => {
  made = await openTestAuthorities()
})
afterAll(() => made?.[Symbol.asyncDispose]())

const open = (options: ListenerOptions) => {
  const credentials = createRenewableServerCredentials(made.authorities, { requireClientCertificate: false })
  return openListener('127.0.0.1:0', credentials, () => {}, options)
}

/** Milliseconds until the server closes it. */
async function closedAfter(open: Socket | ClientHttp2Session): Promise<number> {
  const began = performance.now()
  open.on('error', () => {}) // a reset is an end as well
  await once(open, 'close')
  return performance.now() - began
}

describe('the listener for strangers', () => {
  it('closes connections beyond its limit before TLS begins, and takes new ones when others have gone', async () => {
    expect(STRANGERS.maxConnections).toBeLessThanOrEqual(4_096)
    await using listener = await open({ ...STRANGERS, maxConnections: 2 })
    const held = [connect(listener.port, '127.0.0.1'), connect(listener.port, '127.0.0.1')]
    await Promise.all(held.map(socket => once(socket, 'connect')))
    expect(await closedAfter(connect(listener.port, '127.0.0.1'))).toBeLessThan(5_000)
    for (const socket of held) expect(socket.destroyed).toBe(false)
    for (const socket of held) socket.destroy()
    const isServed = async () => {
      const session = connectHttp2(`https://127.0.0.1:${listener.port}`, { rejectUnauthorized: false })
      session.on('error', () => {}) // while the server has not heard yet that the others left
      const served = await Promise.race([
        once(session, 'remoteSettings').then(() => true),
        once(session, 'close').then(() => false),
      ]).catch(() => false)
      session.destroy()
      return served
    }
    await expect.poll(isServed, { timeout: 10_000 }).toBe(true)
  })

  it('closes a connection on which nothing is asked', async () => {
    expect(STRANGERS.channel).toMatchObject({ 'grpc.max_connection_idle_ms': 30_000 })
    await using listener = await open({
      channel: { ...STRANGERS.channel, 'grpc.max_connection_idle_ms': 300 },
    })
    const session = connectHttp2(`https://127.0.0.1:${listener.port}`, { rejectUnauthorized: false })
    await once(session, 'remoteSettings')
    expect(await closedAfter(session)).toBeLessThan(10_000)
  })

  it('closes a connection on which TLS is not agreed', { timeout: 40_000 }, async () => {
    await using listener = await open(STRANGERS)
    const silent = connect(listener.port, '127.0.0.1')
    await once(silent, 'connect')
    const ms = await closedAfter(silent)
    expect(ms).toBeGreaterThan(5_000)
    expect(ms).toBeLessThan(30_000)
  })
})

describe('a listener that stops', () => {
  it('lets calls that run come to their end for five seconds, and then cuts them', {
    timeout: 30_000,
  }, async () => {
    let asked = 0
    const listener = await openListener('127.0.0.1:0', ServerCredentials.createInsecure(), server => {
      const check = async () => {
        await pause(++asked === 1 ? 1_500 : 20_000)
        return { status: Serving.SERVING }
      }
      serve(server, Health, { check }, { onBug: () => {} })
    })
    using client = createClient(Health, `127.0.0.1:${listener.port}`, credentials.createInsecure())
    const short = client.check({})
    await expect.poll(() => asked).toBe(1)
    const long = client.check({})
    await expect.poll(() => asked).toBe(2)
    const cut = expect(long).rejects.toThrow()
    const began = performance.now()
    await listener[Symbol.asyncDispose]()
    const ms = performance.now() - began
    expect(ms).toBeGreaterThan(4_500)
    expect(ms).toBeLessThan(15_000)
    expect(await short).toMatchObject({ status: Serving.SERVING })
    await cut
  })
})
