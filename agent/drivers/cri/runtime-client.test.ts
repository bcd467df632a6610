import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import {
  Server,
  ServerCredentials,
  type ServiceDefinition,
  status,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js'
import { afterEach, expect, it } from 'vitest'
import { connectRuntime } from './runtime-client.ts'

type Answer = (message: Buffer) => Uint8Array | { readonly code: status; readonly details: string }

const METHODS = [
  'Status',
  ...['ListPodSandbox', 'ListContainers', 'StopContainer', 'StopPodSandbox', 'RemovePodSandbox'],
] as const
type Method = (typeof METHODS)[number]

const open: (() => Promise<void>)[] = []
afterEach(async () => {
  for (const close of open.splice(0)) await close()
})

/** A runtime on a socket of its own that answers from a table; its endpoint, and what it was asked. */
async function runtime(answers: Partial<Record<Method, Answer>>) {
  const asked: { readonly method: Method; readonly message: Buffer }[] = []
  const bytes = (each: Buffer) => each
  const definition: Record<string, ServiceDefinition[string]> = {}
  const handlers: UntypedServiceImplementation = {}
  for (const method of METHODS) {
    const codec = {
      requestSerialize: bytes,
      requestDeserialize: bytes,
      responseSerialize: bytes,
      responseDeserialize: bytes,
    }
    const path = `/runtime.v1.RuntimeService/${method}`
    definition[method] = { path, requestStream: false, responseStream: false, ...codec }
    handlers[method] = (call: { request: Buffer }, end: (error: object | null, answer?: Buffer) => void) => {
      asked.push({ method, message: call.request })
      const answer = answers[method]?.(call.request) ?? new Uint8Array()
      if (answer instanceof Uint8Array) end(null, Buffer.from(answer))
      else end(answer)
    }
  }
  const folder = await mkdtemp(join(tmpdir(), 'muster-runtime-'))
  const server = new Server()
  server.addService(definition, handlers)
  const endpoint = `unix://${folder}/runtime.sock`
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(`unix:${folder}/runtime.sock`, ServerCredentials.createInsecure(), error =>
      error ? reject(error) : resolve(),
    ),
  )
  open.push(async () => {
    server.forceShutdown()
    await rm(folder, { recursive: true })
  })
  return { endpoint, asked, client: connectRuntime(endpoint) }
}

const text = (writer: BinaryWriter, field: number, value: string) =>
  writer.tag(field, WireType.LengthDelimited).string(value)
const nested = (writer: BinaryWriter, field: number, fill: (inner: BinaryWriter) => void) => {
  writer.tag(field, WireType.LengthDelimited).fork()
  fill(writer)
  return writer.join()
}
const pair = (writer: BinaryWriter, field: number, key: string, value: string) =>
  nested(writer, field, inner => text(text(inner, 1, key), 2, value))

it('lists pods by their names, and tells those of files from those of the API server', async () => {
  const writer = new BinaryWriter()
  for (const [id, name, source] of [
    ['a', 'kube-apiserver-n1', 'file'],
    ['b', 'web-1', 'api'],
  ] as const) {
    nested(writer, 1, each => {
      text(each, 1, id)
      nested(each, 2, metadata => {
        text(text(metadata, 1, name), 2, 'uid')
        text(metadata, 3, 'kube-system').tag(4, WireType.Varint).uint32(1)
      })
      each.tag(4, WireType.Varint).int64(1_790_000_000)
      pair(each, 5, 'component', 'x')
      pair(pair(each, 6, 'kubernetes.io/config.seen', 'then'), 6, 'kubernetes.io/config.source', source)
    })
  }
  const { client } = await runtime({ ListPodSandbox: () => writer.finish() })
  expect(await client.sandboxes()).toEqual({
    kind: 'done',
    value: [
      { id: 'a', name: 'kube-apiserver-n1', namespace: 'kube-system', isStatic: true },
      { id: 'b', name: 'web-1', namespace: 'kube-system', isStatic: false },
    ],
  })
})

it('asks what the runtime says of itself', async () => {
  const writer = new BinaryWriter()
  nested(writer, 1, status => {
    nested(status, 1, each => text(each, 1, 'RuntimeReady').tag(2, WireType.Varint).bool(true))
    nested(status, 1, each => text(text(text(each, 1, 'NetworkReady'), 3, 'NotReady'), 4, 'no plugin'))
  })
  pair(writer, 2, 'config', '{}')
  const { client } = await runtime({ Status: () => writer.finish() })
  const conditions = await client.conditions()
  expect(conditions.kind === 'done' && [...conditions.value]).toEqual([
    ['RuntimeReady', { holds: true, reason: '', message: '' }],
    ['NetworkReady', { holds: false, reason: 'NotReady', message: 'no plugin' }],
  ])
})

it('asks for the containers of one pod, and how long it wants to be given', async () => {
  const writer = new BinaryWriter()
  nested(writer, 1, each => {
    text(text(each, 1, 'c1'), 2, 'a')
      .tag(6, WireType.Varint)
      .uint32(1)
    pair(each, 9, 'io.kubernetes.pod.terminationGracePeriod', '5')
  })
  nested(writer, 1, each => text(each, 1, 'c2'))
  const { client, asked } = await runtime({ ListContainers: () => writer.finish() })
  expect(await client.containers('a')).toEqual({
    kind: 'done',
    value: [
      { id: 'c1', graceSeconds: 5 },
      { id: 'c2', graceSeconds: undefined },
    ],
  })
  const reader = new BinaryReader(asked[0]?.message ?? Buffer.alloc(0))
  reader.tag()
  const filter = new BinaryReader(reader.bytes())
  expect([filter.tag(), filter.string()]).toEqual([[3, WireType.LengthDelimited], 'a'])
})

it('stops and removes, and takes what is gone for done', async () => {
  const gone: Answer = () => ({ code: status.NOT_FOUND, details: 'no such container' })
  const { client, asked } = await runtime({ StopContainer: gone, StopPodSandbox: gone })
  expect(await client.stopContainer('c1', 7)).toEqual({ kind: 'done', value: undefined })
  expect(await client.removeSandbox('a')).toEqual({ kind: 'done', value: undefined })
  expect(asked.map(({ method }) => method)).toEqual(['StopContainer', 'StopPodSandbox', 'RemovePodSandbox'])
  const reader = new BinaryReader(asked[0]?.message ?? Buffer.alloc(0))
  const [, id, , grace] = [reader.tag(), reader.string(), reader.tag(), reader.int64()]
  expect([id, Number(grace)]).toEqual(['c1', 7])
})

it('tells a runtime that is not there from one that fails', async () => {
  const { client } = await runtime({
    StopPodSandbox: () => ({ code: status.UNKNOWN, details: 'the network would not let go' }),
  })
  expect(await client.removeSandbox('a')).toMatchObject({
    class: 'command',
    reason: expect.stringMatching(/StopPodSandbox: the network would not let go$/),
  })
  const absent = connectRuntime('unix:///run/muster-no-such.sock')
  expect(await absent.sandboxes()).toMatchObject({
    class: 'precondition',
    reason: expect.stringContaining('unix:///run/muster-no-such.sock'),
  })
  const stop = new AbortController()
  stop.abort()
  expect(await absent.sandboxes(stop.signal)).toMatchObject({ class: 'cancelled' })
})
