import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { HelloSchema } from '../../../shared/gen/muster/v1/agent_pb.ts'
import { BeginRequestSchema, EnrolRequestSchema } from '../../../shared/gen/muster/v1/enrolment_pb.ts'
import type { Envelope } from '../../../shared/gen/muster/v1/envelope_pb.ts'
import { FactsSchema } from '../../../shared/gen/muster/v1/facts_pb.ts'
import { type Target, TargetSchema } from '../../../shared/gen/muster/v1/manifest_pb.ts'
import { createLogger } from '../../../shared/log.ts'
import { keyId } from '../../../shared/x509/key-id.ts'
import type { GeneratedKey } from '../../../shared/x509/machine-key.ts'
import { enrolmentProofText, signProof } from '../../../shared/x509/proof.ts'
import { type Authorities, openAuthorities } from '../../authority/authorities.ts'
import { type BeginDeps, begin } from '../../enrolment/begin.ts'
import { type EnrolDeps, enrol } from '../../enrolment/enrol.ts'
import { Nonces } from '../../enrolment/nonces.ts'
import { RefusalLog } from '../../enrolment/refusal-log.ts'
import { StrangerThrottle } from '../../enrolment/stranger-throttle.ts'
import { FactsCache } from '../../queries/facts-cache.ts'
import { indexTargets } from '../../revisions/fleet-targets.ts'
import { OpenCalls } from '../../services/open-calls.ts'
import { openStore } from '../../store/store.ts'
import { MachineDirectory } from '../directory.ts'
import { FleetTrust } from '../fleet-trust.ts'

/** Real store, authority and directory in a temporary folder, for tests; time stands still until it is moved. */
export async function openTestFleet(authorities: Authorities) {
  const folder = await mkdtemp(join(tmpdir(), 'muster-fleet-'))
  let nowMs = Date.now()
  const clock = { now: () => new Date(nowMs) }
  const store = await openStore(join(folder, 'store.sqlite'), clock.now())
  const directory = await MachineDirectory.load(store.db, indexTargets(0, '', []))
  const trust = await FleetTrust.load(store.db)
  const ended: { machine: string; reason: string }[] = []
  const sent: unknown[] = []
  const online = new Set<string>()
  const openCalls = new OpenCalls(clock)
  const sessions = {
    online: (machine: string) => online.has(machine),
    lastMessage: (machine: string) => (online.has(machine) ? clock.now() : undefined),
    count: () => online.size,
    end: (machine: string, reason: string) => {
      online.delete(machine)
      ended.push({ machine, reason })
    },
    wake: () => {},
    send: (_machine: string, message: unknown) => {
      sent.push(message)
      return true
    },
  }
  const deps = {
    store,
    directory,
    trust,
    clock,
    sessions,
    openCalls,
    authorities,
    nonces: new Nonces(() => clock.now().getTime()),
    strangers: new StrangerThrottle(10, 20),
    refusals: new RefusalLog(store, clock),
    log: createLogger('silent'),
    fleetAddress: () => 'hub.example:7444',
    trustChain: (): readonly Envelope[] => trust.chain(),
    factsLimits: { keep: 5, maxAgeMs: 90 * 86_400_000 },
    conditions: { stuckAfterMs: 600_000, certificateWarnMs: 7 * 86_400_000 },
    factsCache: new FactsCache(),
    maxPending: 1_000,
    maxByRule: 1_000,
    waitSeconds: 10,
  }
  return {
    deps,
    folder,
    online,
    ended,
    sent,
    pass: (ms: number) => {
      nowMs += ms
    },
    /** Publishes targets without signing anything: the directory takes what was verified before it. */
    target: (revision: number, targets: readonly Target[]) =>
      directory.retarget(store.db, indexTargets(revision, 'f'.repeat(64), targets)),
    /** Begins and asks, as an agent does. */
    ask: (asking: Asking) => ask(deps, asking),
    [Symbol.asyncDispose]: async () => {
      await store[Symbol.asyncDispose]()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

export type TestFleet = Awaited<ReturnType<typeof openTestFleet>>

export interface Asking {
  readonly key: GeneratedKey
  readonly facts?: MessageInitShape<typeof FactsSchema>
  /** The text of a token, as `create-token` tells it. */
  readonly token?: string
  readonly nonce?: Uint8Array
  readonly proof?: Uint8Array
  readonly caId?: string
  /** Where it asks from. */
  readonly address?: string
}

async function ask(deps: BeginDeps & EnrolDeps, asking: Asking) {
  const { key } = asking
  const begun = await begin(deps)(create(BeginRequestSchema, { protocolMin: 1, protocolMax: 1 }))
  const nonce = asking.nonce ?? begun.nonce ?? new Uint8Array()
  const facts = factsBytes(asking.facts ?? {})
  const [tokenId = '', tokenSecret = ''] = asking.token?.split('.') ?? []
  const caId = asking.caId ?? begun.caId ?? ''
  const publicKey = key.publicKeyDer
  const text = enrolmentProofText({ nonce, caId, publicKey, facts, tokenId })
  const proof = asking.proof ?? signProof(key.privateKeyPem, text)
  const request = create(EnrolRequestSchema, { nonce, publicKey, facts, tokenId, tokenSecret, proof })
  const peer = { address: asking.address ?? '192.0.2.7', certificate: undefined }
  const { answer } = await enrol(deps)(request, { peer })
  if (!answer?.case) throw new Error('the answer is empty')
  return answer
}

export function factsBytes(facts: MessageInitShape<typeof FactsSchema>): Uint8Array {
  return toBinary(FactsSchema, create(FactsSchema, facts))
}

export function idOf(key: GeneratedKey): string {
  return keyId(key.publicKeyDer)
}

export function helloOf(hello: MessageInitShape<typeof HelloSchema>) {
  return create(HelloSchema, { protocolMin: 1, protocolMax: 1, bootId: 'boot-1', bootCount: 1n, ...hello })
}

export function targetOf(target: MessageInitShape<typeof TargetSchema>): Target {
  return create(TargetSchema, { role: 'worker', system: 'x86_64-linux', ...target })
}

/** One authority for a whole test file: making its key is the slowest part. */
export async function openTestAuthorities() {
  const folder = await mkdtemp(join(tmpdir(), 'muster-authority-'))
  const authorities = await openAuthorities(folder, { clock: { now: () => new Date() }, names: [] })
  return {
    authorities,
    [Symbol.asyncDispose]: async () => {
      await authorities[Symbol.asyncDispose]()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
