import { createPrivateKey, type KeyObject } from 'node:crypto'
import { type ClientHttp2Session, type ClientHttp2Stream, connect as connectHttp2 } from 'node:http2'
import { connect as connectTls, createSecureContext, type SecureContext, type TLSSocket } from 'node:tls'
import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { timestampNow } from '@bufbuild/protobuf/wkt'
import {
  type SessionRequest,
  SessionRequestSchema,
  SessionResponseSchema,
} from '../../shared/gen/muster/v1/agent_pb.ts'
import {
  BeginRequestSchema,
  BeginResponseSchema,
  EnrolRequestSchema,
  EnrolResponseSchema,
} from '../../shared/gen/muster/v1/enrolment_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'
import { keyId } from '../../shared/x509/key-id.ts'
import { enrolmentProofText, signProof } from '../../shared/x509/proof.ts'
import { FrameReader, frame } from './framing.ts'
import type { PoolKey } from './key-pool.ts'
import { encodedFacts } from './made-up-facts.ts'

const HOST = '127.0.0.1'
/** Each wait of an emulated agent: one that stalls fails the run and does not hang it. */
const PATIENCE_MS = 60_000

/** The first byte of a SessionResponse, by which message it holds: field number and wire type 2. */
const tagOf = (field: number) => (field << 3) | 2
const WELCOME = tagOf(1)
const FACTS_REQUEST = tagOf(3)
const PROBE = tagOf(6)
const HEARTBEAT_ACK = tagOf(10)
export const REVISION = tagOf(11)

const encodeRequest = (message: SessionRequest['message']) =>
  frame(toBinary(SessionRequestSchema, create(SessionRequestSchema, { message })))

export interface EnrolmentDoor {
  readonly port: number
  readonly caPem: string
  readonly caPin: string
  readonly tokenId: string
  readonly tokenSecret: string
}

/**
 * An agent as the coordinator sees it, with next to nothing behind it: the real protocol over a connection of its own,
 * framed by hand on node:http2.
 */
export class EmulatedAgent {
  readonly machineId: string
  readonly #publicKeyDer: Buffer
  readonly #privateKeyPem: string
  readonly #privateKey: KeyObject
  readonly #facts: Uint8Array
  readonly #factsJson: string
  #context: SecureContext | undefined
  #session: ClientHttp2Session | undefined
  #stream: ClientHttp2Stream | undefined
  /** Told of every message but probes and requests for facts, which are answered here. */
  onMessage: (tag: number, length: number) => void = () => {}

  constructor(index: number, key: PoolKey) {
    this.#publicKeyDer = key.publicKeyDer
    this.#privateKeyPem = key.privateKeyPem
    this.#privateKey = createPrivateKey(key.privateKeyPem)
    this.machineId = keyId(key.publicKeyDer)
    const { bytes, json } = encodedFacts(index)
    this.#facts = bytes
    this.#factsJson = json
  }

  get connected(): boolean {
    return this.#stream !== undefined && !this.#stream.destroyed
  }

  /** Gives it the certificate it connects with. */
  certify(chainPem: string, caPem: string): void {
    this.#context = createSecureContext({
      ca: caPem,
      cert: chainPem,
      key: this.#privateKeyPem,
      minVersion: 'TLSv1.3',
    })
  }

  /** One bare connection: both sides proved; over when the server, which ends it at once, has closed it. */
  connectOnce(port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const socket = connectTls({ host: HOST, port, secureContext: this.#requireContext() })
      socket.setTimeout(PATIENCE_MS, () => socket.destroy(new Error('bare connection stalled')))
      let secure = false
      socket.once('secureConnect', () => {
        secure = true
      })
      socket.once('error', reject)
      socket.once('close', () => (secure ? resolve() : reject(new Error('closed before it was secure'))))
      socket.resume()
    })
  }

  /** Asks for a certificate on a new connection, until it has it. */
  async enrol(door: EnrolmentDoor, strangerContext: SecureContext): Promise<string> {
    const session = this.#openSession(door.port, strangerContext)
    try {
      const begin = fromBinary(
        BeginResponseSchema,
        await callUnary(
          session,
          '/muster.v1.EnrolmentService/Begin',
          toBinary(BeginRequestSchema, create(BeginRequestSchema, { protocolMin: 1, protocolMax: 1 })),
        ),
      )
      const { tokenId, tokenSecret, caPin } = door
      const text = enrolmentProofText({
        nonce: begin.nonce,
        caId: caPin,
        publicKey: this.#publicKeyDer,
        facts: this.#facts,
        tokenId,
      })
      const request = create(EnrolRequestSchema, {
        nonce: begin.nonce,
        publicKey: this.#publicKeyDer,
        facts: this.#facts,
        tokenId,
        tokenSecret,
        proof: signProof(this.#privateKey, text),
      })
      const { answer } = fromBinary(
        EnrolResponseSchema,
        await callUnary(session, '/muster.v1.EnrolmentService/Enrol', toBinary(EnrolRequestSchema, request)),
      )
      if (answer.case !== 'certificate') {
        throw new Error(`no certificate but ${answer.case}: ${answer.value?.reason ?? ''}`)
      }
      return answer.value.chainPem
    } finally {
      session.destroy()
    }
  }

  /** Opens the session stream, to the coordinator or to a server that only looks like it. */
  async open(port: number): Promise<void> {
    const session = this.#openSession(port, this.#requireContext())
    this.#session = session
    const stream = session.request(requestHeaders('/muster.v1.AgentService/Session'))
    this.#stream = stream
    const reader = new FrameReader()
    const welcomed = new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('no welcome')), PATIENCE_MS)
      const fail = (error: Error) => {
        clearTimeout(timer)
        reject(error)
      }
      stream.once('error', fail)
      stream.once('trailers', trailers => fail(new Error(`session ended: ${describeStatus(trailers)}`)))
      stream.on('data', (piece: Buffer) => {
        for (const message of reader.push(piece)) {
          if (message[0] === WELCOME) {
            clearTimeout(timer)
            resolve()
          }
          this.#take(message)
        }
      })
    })
    stream.write(
      encodeRequest({
        case: 'hello',
        value: {
          $typeName: 'muster.v1.Hello',
          protocolMin: 1,
          protocolMax: 1,
          version: '0.1.0',
          factsDigest: sha256Hex(this.#facts),
          bootId: 'boot',
          bootCount: 1n,
          journalSequence: 0n,
          acknowledged: 0n,
          untold: [],
          highestRevision: 0n,
          highestDigest: '',
          instance: 'bench',
          now: timestampNow(),
          allowed: ['apply'],
          simulated: true,
          host: '',
        },
      }),
    )
    await welcomed
  }

  send(framed: Buffer): void {
    this.#stream?.write(framed)
  }

  close(): void {
    this.#session?.destroy()
    this.#session = undefined
    this.#stream = undefined
  }

  #take(message: Buffer): void {
    const tag = message[0] ?? 0
    if (tag === PROBE) {
      const response = fromBinary(SessionResponseSchema, message).message
      if (response.case !== 'probe') return
      const { probeId } = response.value
      const value = { $typeName: 'muster.v1.ProbeAnswer', probeId, json: this.#factsJson, error: '' } as const
      this.send(encodeRequest({ case: 'probeAnswer', value }))
    } else if (tag === FACTS_REQUEST) {
      const value = { $typeName: 'muster.v1.FactsReport', facts: this.#facts } as const
      this.send(encodeRequest({ case: 'facts', value }))
    } else {
      this.onMessage(tag, message.length)
    }
  }

  #requireContext(): SecureContext {
    if (!this.#context) throw new Error(`${this.machineId}: has no certificate yet`)
    return this.#context
  }

  #openSession(port: number, secureContext: SecureContext): ClientHttp2Session {
    const session = connectHttp2(`https://${HOST}:${port}`, {
      createConnection: (): TLSSocket =>
        connectTls({ host: HOST, port, secureContext, ALPNProtocols: ['h2'] }),
    })
    session.on('error', () => {}) // its streams tell what is wrong
    return session
  }
}

/** The beat that an agent sends, made once for all. */
export function heartbeatFrame(): Buffer {
  const value = {
    $typeName: 'muster.v1.Heartbeat',
    now: timestampNow(),
    load: 0.25,
    memoryAvailable: 16n * 1024n ** 3n,
  } as const
  return encodeRequest({ case: 'heartbeat', value })
}

export const isHeartbeatAck = (tag: number) => tag === HEARTBEAT_ACK

function requestHeaders(path: string) {
  return { ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers' }
}

function describeStatus(trailers: { readonly [name: string]: unknown }): string {
  return `grpc-status ${String(trailers['grpc-status'])} ${decodeURIComponent(String(trailers['grpc-message'] ?? ''))}`
}

/** One request, one response. */
function callUnary(session: ClientHttp2Session, path: string, message: Uint8Array): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const stream = session.request(requestHeaders(path))
    stream.setTimeout(PATIENCE_MS, () => stream.destroy(new Error(`${path} stalled`)))
    const reader = new FrameReader()
    let answer: Buffer | undefined
    let failure = `${path}: the connection closed`
    stream.on('data', (piece: Buffer) => {
      answer ??= reader.push(piece)[0]
    })
    const check = (headers: { readonly [name: string]: unknown }) => {
      if (headers['grpc-status'] !== undefined && headers['grpc-status'] !== '0') {
        failure = `${path}: ${describeStatus(headers)}`
        answer = undefined
      }
    }
    stream.once('response', check)
    stream.once('trailers', check)
    stream.once('error', reject)
    stream.once('close', () => (answer ? resolve(answer) : reject(new Error(failure))))
    stream.end(frame(message))
  })
}
