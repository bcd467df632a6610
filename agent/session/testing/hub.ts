import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import { Server, ServerCredentials } from '@grpc/grpc-js'
import {
  AgentService,
  type AssignmentSchema,
  type ConfirmOperationRequest,
  type ConfirmOperationResponseSchema,
  type GetRevisionResponseSchema,
  type Hello,
  type RenewRequest,
  type SessionRequest,
  type SessionResponseSchema,
} from '../../../shared/gen/muster/v1/agent_pb.ts'
import {
  EnrolmentService,
  type EnrolRequest,
  type EnrolResponseSchema,
  type ReportFailureRequest,
} from '../../../shared/gen/muster/v1/enrolment_pb.ts'
import { type TrustChain, TrustChainSchema } from '../../../shared/gen/muster/v1/trust_pb.ts'
import { Outbox } from '../../../shared/rpc/outbox.ts'
import { unavailable } from '../../../shared/rpc/rpc-error.ts'
import { serve } from '../../../shared/rpc/serve.ts'
import { durationFromMs } from '../../../shared/time.ts'
import { type Authority, createAuthority, openAuthority } from '../../../shared/x509/authority.ts'
import { issueCertificate } from '../../../shared/x509/issue-certificate.ts'
import { keyId } from '../../../shared/x509/key-id.ts'
import { type GeneratedKey, generateMachineKey } from '../../../shared/x509/machine-key.ts'
import { enrolmentProofText, verifyProof } from '../../../shared/x509/proof.ts'

const DAY_MS = 86_400_000

export type EnrolAnswer = NonNullable<MessageInitShape<typeof EnrolResponseSchema>['answer']>
export type Directive = MessageInitShape<typeof SessionResponseSchema>

/** Keys that take long to make: one set for a file of tests. */
export interface HubKeys {
  readonly authority: Authority
  readonly other: Authority
  readonly server: GeneratedKey
}

export async function makeHubKeys(): Promise<HubKeys> {
  const dates = {
    notBefore: new Date(Date.now() - DAY_MS),
    notAfter: new Date(Date.now() + 365 * DAY_MS),
    bits: 2048,
  }
  const [authority, other, server] = await Promise.all([
    createAuthority(dates).then(openAuthority),
    createAuthority(dates).then(openAuthority),
    generateMachineKey(2048),
  ])
  return { authority, other, server }
}

/** One session as the coordinator sees it. */
export class HubSession {
  readonly hello: Hello
  readonly messages: SessionRequest['message'][] = []
  readonly out = new Outbox<Directive>(64)
  open = true

  constructor(hello: Hello) {
    this.hello = hello
  }

  send(message: Directive['message']): void {
    this.out.push(message === undefined ? {} : { message })
  }

  of<C extends SessionRequest['message']['case']>(wanted: C) {
    return this.messages.filter(
      (message): message is Extract<SessionRequest['message'], { case: C }> => message.case === wanted,
    )
  }
}

/** A small coordinator over real TLS. What it answers is the test's to say. */
export class Hub implements AsyncDisposable {
  readonly keys: HubKeys
  /** Names of the calls that arrived, in order. */
  readonly calls: string[] = []
  readonly enrolments: EnrolRequest[] = []
  readonly failures: ReportFailureRequest[] = []
  readonly renewals: RenewRequest[] = []
  readonly sessions: HubSession[] = []
  trust: TrustChain = create(TrustChainSchema)
  answer: (request: EnrolRequest) => EnrolAnswer | Promise<EnrolAnswer>
  onHello: (hello: Hello) => void = () => {}
  /** Which host every machine is told to be. */
  assignment: MessageInitShape<typeof AssignmentSchema> = {}
  revision: (number: bigint) => MessageInitShape<typeof GetRevisionResponseSchema> = () => ({})
  /** Whether an operation is confirmed; a test may fall silent. */
  confirm: (
    request: ConfirmOperationRequest,
  ) => Promise<MessageInitShape<typeof ConfirmOperationResponseSchema>> = async () => ({ confirmed: true })
  tree: (offset: bigint) => AsyncIterable<Uint8Array> = async function* () {}
  acknowledges = true
  renews = true
  /** An agent gives a session up after some of them without an answer: a busy machine must not seem silent. */
  heartbeatMs = 2_000
  certificateMs = 10 * DAY_MS
  authority: Authority
  enrolmentPort = 0
  fleetPort = 0
  #enrolment: Server | undefined
  #fleet: Server | undefined

  constructor(keys: HubKeys) {
    this.keys = keys
    this.authority = keys.authority
    this.answer = request => this.admit(request.publicKey)
  }

  static async start(keys: HubKeys, change: (hub: Hub) => void = () => {}): Promise<Hub> {
    const hub = new Hub(keys)
    change(hub)
    await hub.listen()
    return hub
  }

  get coordinator(): string {
    return `127.0.0.1:${this.enrolmentPort}`
  }

  get newest(): HubSession | undefined {
    return this.sessions.at(-1)
  }

  /** Listens, again on the same ports after `stop`, with certificates of the present authority. */
  async listen(): Promise<void> {
    const chain = issueCertificate({
      authority: this.authority,
      subject: { kind: 'server', id: keyId(this.keys.server.publicKeyDer) },
      publicKeyDer: this.keys.server.publicKeyDer,
      notBefore: new Date(Date.now() - DAY_MS),
      notAfter: new Date(Date.now() + 30 * DAY_MS),
      sans: [{ kind: 'ip', value: '127.0.0.1' }],
    }).chainPem
    const pair = {
      private_key: Buffer.from(this.keys.server.privateKeyPem),
      cert_chain: Buffer.from(chain),
    }
    const roots = Buffer.from(this.keys.authority.certificatePem + this.keys.other.certificatePem)
    this.#enrolment = new Server()
    this.#serveEnrolment(this.#enrolment)
    this.enrolmentPort = await bind(
      this.#enrolment,
      this.enrolmentPort,
      ServerCredentials.createSsl(null, [pair]),
    )
    this.#fleet = new Server()
    this.#serveFleet(this.#fleet)
    this.fleetPort = await bind(this.#fleet, this.fleetPort, ServerCredentials.createSsl(roots, [pair], true))
  }

  /** Stops listening and cuts all connections. */
  stop(): void {
    for (const session of this.sessions) session.open = false
    this.#enrolment?.forceShutdown()
    this.#fleet?.forceShutdown()
  }

  /** A certificate for a key, for as long as `certificateMs` says. */
  issue(publicKey: Uint8Array): string {
    return issueCertificate({
      authority: this.authority,
      subject: { kind: 'machine', id: keyId(publicKey) },
      publicKeyDer: publicKey,
      notBefore: new Date(Date.now() - DAY_MS),
      notAfter: new Date(Date.now() + this.certificateMs),
    }).chainPem
  }

  admit(publicKey: Uint8Array): EnrolAnswer {
    const chainPem = this.issue(publicKey)
    return { case: 'certificate', value: { chainPem, fleetAddress: `127.0.0.1:${this.fleetPort}` } }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stop()
  }

  #serveEnrolment(server: Server): void {
    const nonce = Buffer.alloc(32, 7)
    serve(
      server,
      EnrolmentService,
      {
        begin: async () => {
          this.calls.push('begin')
          return {
            nonce,
            caId: this.authority.pin,
            trust: this.trust,
            now: timestampFromDate(new Date()),
            protocol: 1,
          }
        },
        enrol: async request => {
          this.calls.push('enrol')
          this.enrolments.push(request)
          const text = enrolmentProofText({
            nonce,
            caId: this.authority.pin,
            publicKey: request.publicKey,
            facts: request.facts,
            tokenId: request.tokenId,
          })
          if (!verifyProof(request.publicKey, text, request.proof)) {
            return { answer: { case: 'refusal', value: { class: 'proof', reason: 'bad proof' } } }
          }
          return { answer: await this.answer(request) }
        },
        reportFailure: async request => {
          this.calls.push('reportFailure')
          this.failures.push(request)
          return {}
        },
      },
      { onBug: (method, error) => this.calls.push(`bug in ${method}: ${String(error)}`) },
    )
  }

  #serveFleet(server: Server): void {
    const hub = this
    serve(
      server,
      AgentService,
      {
        session: async function* (requests, { signal }) {
          const iterator = requests[Symbol.asyncIterator]()
          const first = await iterator.next()
          if (first.done || first.value.message.case !== 'hello') return
          hub.calls.push('session')
          const session = new HubSession(first.value.message.value)
          hub.sessions.push(session)
          hub.onHello(session.hello)
          signal.addEventListener('abort', () => {
            session.open = false
            session.out.close()
          })
          session.send({
            case: 'welcome',
            value: {
              protocol: 1,
              heartbeatInterval: durationFromMs(hub.heartbeatMs),
              now: timestampFromDate(new Date()),
              version: 'test',
              assignment: hub.assignment,
            },
          })
          void hub.#read(session, iterator)
          yield* session.out
        },
        renew: async request => {
          hub.calls.push('renew')
          hub.renewals.push(request)
          if (!hub.renews) throw unavailable('not now')
          return { chainPem: hub.issue(request.publicKey) }
        },
        getRevision: async ({ number }) => hub.revision(number),
        confirmOperation: async request => hub.confirm(request),
        downloadTree: async function* ({ offset }) {
          for await (const chunk of hub.tree(offset)) yield { chunk }
        },
        getTrust: async () => {
          hub.calls.push('getTrust')
          return { trust: hub.trust }
        },
      },
      { onBug: (method, error) => hub.calls.push(`bug in ${method}: ${String(error)}`) },
    )
  }

  async #read(session: HubSession, iterator: AsyncIterator<SessionRequest>): Promise<void> {
    try {
      for (let next = await iterator.next(); !next.done; next = await iterator.next()) {
        session.messages.push(next.value.message)
        if (next.value.message.case === 'heartbeat' && this.acknowledges) {
          session.send({ case: 'heartbeatAck', value: { now: timestampFromDate(new Date()) } })
        }
      }
    } catch {
      // The other side went away; the session's end is told by its signal.
    }
    session.open = false
    session.out.close()
  }
}

function bind(server: Server, port: number, credentials: ServerCredentials): Promise<number> {
  return new Promise((resolve, reject) =>
    server.bindAsync(`127.0.0.1:${port}`, credentials, (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  )
}
