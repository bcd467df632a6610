// For tests: a fleet with real keys, a store in a temporary folder and revisions that are really signed.
import { randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { signEnvelope } from '../../../shared/envelope/envelope.ts'
import { generateSigningKey, type SigningKeyPair } from '../../../shared/envelope/keys.ts'
import { MANIFEST_TYPE } from '../../../shared/envelope/payload-types.ts'
import {
  BindingSchema,
  SourceBuildSchema,
  type Target,
  TargetSchema,
} from '../../../shared/gen/muster/v1/manifest_pb.ts'
import {
  type PublishRevisionRequest,
  PublishRevisionRequestSchema,
} from '../../../shared/gen/muster/v1/revision_pb.ts'
import { randomId, sha256Hex } from '../../../shared/ids.ts'
import {
  type BuiltManifest,
  buildManifest,
  type ManifestInput,
} from '../../../shared/revision/build-manifest.ts'
import { makeFirstTrustSet, type SignedTrust } from '../../../shared/trust/make-trust-set.ts'
import { type NewMachineRow, newMachineRow } from '../../store/machines.ts'
import { openStore, type Store } from '../../store/store.ts'
import { appendTrustSet } from '../../store/trust-sets.ts'
import { type Blobs, openBlobs } from '../blobs.ts'
import { type FleetTargetsCache, fleetTargetsCache } from '../fleet-targets.ts'

const DAY_MS = 86_400_000
export const KEY = generateSigningKey()
export const START = new Date('2027-03-01T12:00:00Z')

export interface SampleFleet extends AsyncDisposable {
  readonly folder: string
  readonly store: Store
  readonly blobs: Blobs
  readonly fleetTargets: FleetTargetsCache
  readonly fleetId: string
  readonly trust: SignedTrust
  readonly clock: { at: Date; now(): Date }
}

export async function sampleFleet(): Promise<SampleFleet> {
  const folder = await mkdtemp(join(tmpdir(), 'muster-fleet-'))
  const store = await openStore(join(folder, 'store.sqlite'), START)
  const fleetId = randomId()
  const trust = makeFirstTrustSet({
    fleetId,
    created: START,
    signers: [KEY],
    keys: [{ key: KEY, comment: 'operator' }],
    threshold: 1,
    recoveryKeys: [],
    caPins: [],
    coordinators: [],
  })
  await store.transact(tx => appendTrustSet(tx, trust.envelope, trust.trust, START))
  const clock = {
    at: START,
    now() {
      return this.at
    },
  }
  return {
    folder,
    store,
    blobs: await openBlobs(join(folder, 'blobs')),
    fleetTargets: fleetTargetsCache(),
    fleetId,
    trust,
    clock,
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

export function targetOf(
  fleetId: string,
  host: string,
  binding: MessageInitShape<typeof BindingSchema> = {},
): Target {
  return create(TargetSchema, {
    fleetId,
    host,
    binding: create(BindingSchema, binding),
    system: 'x86_64-linux',
    way: { case: 'source', value: create(SourceBuildSchema, { attribute: host }) },
    role: 'none',
  })
}

export interface SampleRevision extends BuiltManifest {
  readonly tree: Buffer
  readonly messages: readonly PublishRevisionRequest[]
}

/** A revision after `before`, with one target for each host, as an operator would send it. */
export function sampleRevision(
  fleet: Pick<SampleFleet, 'fleetId' | 'trust' | 'clock'>,
  before: BuiltManifest | undefined,
  change: Partial<ManifestInput> & {
    readonly hosts?: readonly string[]
    readonly tree_?: Buffer
    readonly signers?: readonly SigningKeyPair[]
    readonly renew?: boolean
    readonly sent?: (built: BuiltManifest) => readonly Uint8Array[]
  } = {},
): SampleRevision {
  const tree = change.tree_ ?? randomBytes(150_000)
  const built = buildManifest({
    fleetId: fleet.fleetId,
    number: (before?.manifest.number ?? 0) + 1,
    predecessor: before?.manifest.digest ?? '',
    floor: 1,
    tree: { digest: sha256Hex(tree), length: tree.length },
    targets: (change.hosts ?? ['olaf', 'nas']).map(host => targetOf(fleet.fleetId, host)),
    created: fleet.clock.now(),
    expires: new Date(fleet.clock.now().getTime() + 30 * DAY_MS),
    provenance: { commit: '', dirty: false, lockDigest: '', publisher: 'anna@desk', tool: 'muster 0.1.0' },
    trustSet: fleet.trust.envelope,
    ...change,
  })
  const chunks: Buffer[] = []
  for (let at = 0; at < tree.length && !change.renew; at += 64 * 1024) {
    chunks.push(tree.subarray(at, at + 64 * 1024))
  }
  const messages = [
    create(PublishRevisionRequestSchema, {
      part: {
        case: 'header',
        value: {
          envelope: signEnvelope(built.payload, MANIFEST_TYPE, change.signers ?? [KEY]),
          targets: [...(change.sent?.(built) ?? built.targets.map(({ bytes }) => bytes))],
          expectedPredecessor: built.manifest.manifest.predecessor,
          renew: change.renew ?? false,
        },
      },
    }),
    ...chunks.map(chunk => create(PublishRevisionRequestSchema, { part: { case: 'chunk', value: chunk } })),
  ]
  return { ...built, tree, messages }
}

export async function* streamOf<T>(items: readonly T[]): AsyncGenerator<T> {
  for (const item of items) {
    await Promise.resolve()
    yield item
  }
}

/** A machine as enrolment leaves it, active where nothing else is said. */
export async function addMachine(
  store: Store,
  id: string,
  change: Partial<NewMachineRow> = {},
): Promise<string> {
  await store.db
    .insertInto('machines')
    .values({
      ...newMachineRow({
        id,
        publicKey: Buffer.from(id),
        state: 'active',
        nowMs: START.getTime(),
        address: '10.0.0.9',
      }),
      agent_version: '0.1.0',
      allowed: '["apply"]',
      ...change,
    })
    .execute()
  return id
}
