import type { DescService } from '@bufbuild/protobuf'
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import {
  AgentService,
  type HelloSchema,
  type SessionRequestSchema,
  type SessionResponse,
} from '../../shared/gen/muster/v1/agent_pb.ts'
import {
  EnrolmentService,
  type EnrolRequestSchema,
  type EnrolResponse,
} from '../../shared/gen/muster/v1/enrolment_pb.ts'
import { type Facts, FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { randomId } from '../../shared/ids.ts'
import { createClient, type RpcClient } from '../../shared/rpc/client.ts'
import { Outbox } from '../../shared/rpc/outbox.ts'
import { createClientCredentials } from '../../shared/x509/client-credentials.ts'
import { keyId } from '../../shared/x509/key-id.ts'
import { type GeneratedKey, generateMachineKey } from '../../shared/x509/machine-key.ts'
import { enrolmentProofText, signProof } from '../../shared/x509/proof.ts'
import type { Fleet } from './fleet.ts'
import { until } from './shown.ts'

export type EnrolRequestInit = MessageInitShape<typeof EnrolRequestSchema>
export type RawFacts = MessageInitShape<typeof FactsSchema>

export interface RawEnrolment {
  readonly facts?: RawFacts
  /** Text of a token. */
  readonly token?: string
  /** Instead of a fresh one. */
  readonly nonce?: Uint8Array
  /** Laid over the request after it was signed. */
  readonly change?: EnrolRequestInit
}

/** A caller that speaks the wire as an agent does, and whatever else a test wants it to say. */
export class RawMachine {
  readonly key: GeneratedKey
  readonly id: string
  readonly #fleet: Fleet
  /** What it says of itself unless told otherwise. */
  facts: RawFacts = factsOf()
  chainPem = ''

  constructor(fleet: Fleet, key: GeneratedKey) {
    this.#fleet = fleet
    this.key = key
    this.id = keyId(key.publicKeyDer)
  }

  static async make(fleet: Fleet): Promise<RawMachine> {
    return new RawMachine(fleet, await generateMachineKey(2048))
  }

  async enrolmentClient(): Promise<RpcClient<typeof EnrolmentService>> {
    const { authorityPem } = await this.#fleet.api.getFleet({})
    const credentials = createClientCredentials({ caPem: [authorityPem] })
    return createClient(EnrolmentService, `127.0.0.1:${this.#fleet.enrolmentPort}`, credentials)
  }

  async nonce(): Promise<Uint8Array> {
    using client = await this.enrolmentClient()
    return (await client.begin({ protocolMin: 1, protocolMax: 1 })).nonce
  }

  /** A whole request, signed with this machine's key. */
  async request(options: RawEnrolment = {}): Promise<EnrolRequestInit> {
    const caId = await this.#fleet.caPin()
    const nonce = options.nonce ?? (await this.nonce())
    const facts = toBinary(FactsSchema, factsOf(options.facts ?? this.facts))
    const [tokenId = '', tokenSecret = ''] = options.token?.split('.') ?? []
    const publicKey = this.key.publicKeyDer
    const text = enrolmentProofText({ nonce, caId, publicKey, facts, tokenId })
    const proof = signProof(this.key.privateKeyPem, text)
    return { nonce, publicKey, facts, tokenId, tokenSecret, proof, ...options.change }
  }

  async send(request: EnrolRequestInit): Promise<EnrolResponse['answer']> {
    using client = await this.enrolmentClient()
    const { answer } = await client.enrol(request)
    if (answer.case === 'certificate') this.chainPem = answer.value.chainPem
    return answer
  }

  async enrol(options: RawEnrolment = {}): Promise<EnrolResponse['answer']> {
    return await this.send(await this.request(options))
  }

  /** A client on the fleet listener with this machine's certificate. */
  async fleetClient<S extends DescService>(service: S): Promise<RpcClient<S>> {
    const { authorityPem } = await this.#fleet.api.getFleet({})
    const identity = { chainPem: this.chainPem, privateKeyPem: this.key.privateKeyPem }
    const credentials = createClientCredentials({ caPem: [authorityPem], identity })
    return createClient(service, `127.0.0.1:${this.#fleet.fleetPort}`, credentials)
  }

  async session(hello: MessageInitShape<typeof HelloSchema> = {}): Promise<RawSession> {
    return new RawSession(await this.fleetClient(AgentService), {
      protocolMin: 1,
      protocolMax: 1,
      version: '0.1.0',
      bootId: 'boot-1',
      bootCount: 1n,
      instance: randomId(),
      allowed: ['apply'],
      now: timestampFromDate(new Date()),
      ...hello,
    })
  }
}

/** A machine's stream, held open; it collects what it is sent and answers nothing by itself. */
export class RawSession implements AsyncDisposable {
  readonly received: SessionResponse[] = []
  readonly #client: RpcClient<typeof AgentService>
  readonly #outbox = new Outbox<MessageInitShape<typeof SessionRequestSchema>>(64)
  readonly #ended: Promise<unknown>
  /** What the session ended with; undefined while it lives. */
  end: unknown

  constructor(client: RpcClient<typeof AgentService>, hello: MessageInitShape<typeof HelloSchema>) {
    this.#client = client
    this.send({ message: { case: 'hello', value: hello } })
    this.#ended = this.#read()
  }

  send(message: MessageInitShape<typeof SessionRequestSchema>): void {
    this.#outbox.push(message)
  }

  beat(): void {
    this.send({ message: { case: 'heartbeat', value: { now: timestampFromDate(new Date()) } } })
  }

  kinds(): string[] {
    return this.received.flatMap(({ message }) => (message.case === undefined ? [] : [message.case]))
  }

  async untilReceived(kind: SessionResponse['message']['case'] & string): Promise<void> {
    await until(`a ${kind}`, () => (this.kinds().includes(kind) ? true : undefined))
  }

  /** Waits for the end; its text. */
  async untilEnded(): Promise<string> {
    await until('end of the session', () => this.end)
    return this.end instanceof Error ? this.end.message : String(this.end)
  }

  async #read(): Promise<void> {
    try {
      for await (const message of this.#client.session(this.#outbox)) this.received.push(message)
      this.end = 'the other side closed it'
    } catch (error) {
      this.end = error
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#outbox.close()
    this.#client[Symbol.dispose]()
    await this.#ended
  }
}

/** Facts of a machine of its own, unless told which. */
export function factsOf(facts?: RawFacts): Facts {
  if (facts) return create(FactsSchema, facts)
  const serial = randomId().slice(0, 12).toUpperCase()
  return create(FactsSchema, {
    system: {
      product: 'RAW-1',
      serial,
      uuid: `${serial.toLowerCase().slice(0, 8)}-0000-4000-8000-000000000000`,
    },
    disks: [{ name: 'sda', serial: `D${serial}` }],
    simulated: true,
  })
}
