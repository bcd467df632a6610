import { createServer } from 'node:net'
import { credentials, Server, ServerCredentials, status } from '@grpc/grpc-js'
import { afterEach, describe, expect, it } from 'vitest'
import { AgentService } from '../gen/muster/v1/agent_pb.ts'
import { LocalService } from '../gen/muster/v1/local_pb.ts'
import { createClient } from './client.ts'
import type { ServiceHandlers } from './definition.ts'
import { Outbox } from './outbox.ts'
import { invalid, RpcError } from './rpc-error.ts'
import { serve } from './serve.ts'

const servers: Server[] = []
afterEach(() => {
  for (const server of servers.splice(0)) server.forceShutdown()
})

async function listen(add: (server: Server) => void): Promise<string> {
  const server = new Server()
  servers.push(server)
  add(server)
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  )
  return `127.0.0.1:${port}`
}

const agentHandlers = (
  session: ServiceHandlers<typeof AgentService>['session'],
): ServiceHandlers<typeof AgentService> => ({
  session,
  renew: async () => ({}),
  getRevision: async () => ({}),
  downloadTree: async function* () {},
  getTrust: async () => ({}),
  confirmOperation: async () => ({}),
})

describe('the gRPC adapter', () => {
  it('gives an RpcError to the caller as it is, and any other error as INTERNAL without its text', async () => {
    const bugs: string[] = []
    const address = await listen(server =>
      serve(
        server,
        LocalService,
        {
          getStatus: async () => {
            throw invalid('field: wrong')
          },
          setTrust: async () => {
            throw new Error('password is hunter2')
          },
          giveOrder: async () => ({}),
          confirm: async () => ({}),
        },
        { onBug: method => bugs.push(method) },
      ),
    )
    using client = createClient(LocalService, address, credentials.createInsecure())
    await expect(client.getStatus({})).rejects.toMatchObject({
      code: status.INVALID_ARGUMENT,
      message: 'field: wrong',
    })
    const error = await client.setTrust({}).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(RpcError)
    expect(error).toMatchObject({ code: status.INTERNAL })
    expect(String(error)).not.toContain('hunter2')
    expect(bugs).toEqual(['SetTrust'])
  })

  it('cancels the call on the server when the client leaves the stream early', async () => {
    let cancelled = false
    const address = await listen(server =>
      serve(
        server,
        AgentService,
        agentHandlers(async function* (_requests, { signal }) {
          signal.addEventListener('abort', () => {
            cancelled = true
          })
          for (;;) {
            if (signal.aborted) return
            yield {}
            await new Promise(resolve => setTimeout(resolve, 5))
          }
        }),
        { onBug: () => {} },
      ),
    )
    using client = createClient(AgentService, address, credentials.createInsecure())
    for await (const _ of client.session(new Outbox(1))) break
    await expect.poll(() => cancelled).toBe(true)
  })

  it('waits for a slow reader as often as it must and leaves nothing behind of it', async () => {
    const warnings: string[] = []
    const onWarning = (warning: Error) => void warnings.push(warning.message)
    process.on('warning', onWarning)
    let bytes = 0
    const address = await listen(server =>
      serve(
        server,
        AgentService,
        agentHandlers(async function* (requests) {
          for await (const { message } of requests) {
            if (message.case === 'facts') bytes += message.value.facts.length
          }
          yield { message: { case: 'welcome', value: {} } }
        }),
        { onBug: () => {} },
      ),
    )
    using client = createClient(AgentService, address, credentials.createInsecure())
    async function* large() {
      const facts = new Uint8Array(64 * 1024)
      for (let i = 0; i < 200; i++) yield { message: { case: 'facts' as const, value: { facts } } }
    }
    try {
      for await (const { message } of client.session(large())) expect(message.case).toBe('welcome')
    } finally {
      process.off('warning', onWarning)
    }
    expect(bytes).toBe(200 * 64 * 1024)
    expect(warnings).toEqual([])
  })

  it('sends the status of a handler that leaves the requests early', async () => {
    const address = await listen(server =>
      serve(
        server,
        AgentService,
        agentHandlers(async function* (requests) {
          for await (const _ of requests) {
            yield {}
            throw invalid('hello: bad')
          }
        }),
        { onBug: () => {} },
      ),
    )
    using client = createClient(AgentService, address, credentials.createInsecure())
    const outbox = new Outbox<object>(8)
    outbox.push({})
    outbox.push({})
    const read = async () => {
      for await (const _ of client.session(outbox)) {
      }
    }
    await expect(read()).rejects.toMatchObject({ code: status.INVALID_ARGUMENT, message: 'hello: bad' })
  })

  it('ends a unary call by its deadline when the server does not answer', async () => {
    const silent = createServer(() => {}).listen(0, '127.0.0.1')
    await new Promise(resolve => silent.once('listening', resolve))
    const bound = silent.address()
    const port = typeof bound === 'object' && bound ? bound.port : 0
    using client = createClient(LocalService, `127.0.0.1:${port}`, credentials.createInsecure())
    await expect(client.getStatus({}, { deadlineMs: 200 })).rejects.toMatchObject({
      code: status.DEADLINE_EXCEEDED,
    })
    silent.close()
  })
})
