// The floors: the same connections, certificates and bytes, served by node:tls and node:http2 and nothing else.
import { constants } from 'node:crypto'
import { once } from 'node:events'
import { createSecureServer, type ServerHttp2Stream } from 'node:http2'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:tls'
import { FrameReader, frame } from './framing.ts'
import { hookCommands } from './hook-commands.ts'
import { answerCommands } from './worker.ts'

export interface FloorStart {
  readonly keyPem: string
  readonly chainPem: string
  readonly caPem: string
}

const streams = new Set<ServerHttp2Stream>()
/** What every stream is sent at a broadcast. */
let framed: Buffer = Buffer.alloc(0)
/** A SessionResponse with an empty welcome, and one with an empty acknowledgement of a heartbeat. */
const WELCOME = frame(Buffer.from([0x0a, 0]))
const HEARTBEAT_ACK = frame(Buffer.from([0x52, 0]))

async function start({ keyPem, chainPem, caPem }: FloorStart) {
  const options = {
    key: keyPem,
    cert: chainPem,
    ca: caPem,
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: 'TLSv1.3',
    secureOptions: constants.SSL_OP_NO_TICKET, // as the coordinator's listeners have it
  } as const
  const tls = createServer(options, socket => {
    socket.on('error', () => {}) // the client reports it
    socket.end()
  }).listen(0, '127.0.0.1')
  const http2 = createSecureServer(options).listen(0, '127.0.0.1')
  http2.on('stream', takeStream)
  await Promise.all([once(tls, 'listening'), once(http2, 'listening')])
  return { tlsPort: portOf(tls.address()), http2Port: portOf(http2.address()) }
}

/** Greets, answers each further message with a few bytes, and stays open. */
function takeStream(stream: ServerHttp2Stream): void {
  const reader = new FrameReader()
  let answer = WELCOME
  streams.add(stream)
  stream.on('error', () => {}) // its end is all that matters
  stream.on('close', () => streams.delete(stream))
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' })
  stream.on('data', (piece: Buffer) => {
    for (const _ of reader.push(piece)) {
      stream.write(answer)
      answer = HEARTBEAT_ACK
    }
  })
}

function portOf(address: string | AddressInfo | null): number {
  if (typeof address !== 'object' || address === null) throw new Error('the floor has no port')
  return address.port
}

function load(message: Uint8Array): void {
  framed = frame(message)
}

function broadcast(): void {
  for (const stream of streams) stream.write(framed)
}

const commands = { ...hookCommands, start, load, broadcast }
export type FloorCommands = typeof commands

answerCommands(commands)
