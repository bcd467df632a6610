import { createReadStream } from 'node:fs'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { signEnvelope } from '../../shared/envelope/envelope.ts'
import { generateSigningKey, type SigningKeyPair } from '../../shared/envelope/keys.ts'
import { MANIFEST_TYPE } from '../../shared/envelope/payload-types.ts'
import { clusterEntries, fleetTargets, type TargetMode } from '../../shared/fleet-file/fleet-targets.ts'
import { formatProblems } from '../../shared/fleet-file/problem.ts'
import { readFleetFile } from '../../shared/fleet-file/read-fleet-file.ts'
import { rolloutPolicyMessage } from '../../shared/fleet-file/rollout-message.ts'
import type { Envelope } from '../../shared/gen/muster/v1/envelope_pb.ts'
import type { Target } from '../../shared/gen/muster/v1/manifest_pb.ts'
import {
  PublishHeaderSchema,
  type PublishRevisionRequestSchema,
} from '../../shared/gen/muster/v1/revision_pb.ts'
import { randomId } from '../../shared/ids.ts'
import {
  type BuiltManifest,
  buildManifest,
  type ManifestInput,
} from '../../shared/revision/build-manifest.ts'
import { packTree } from '../../shared/tree/pack-tree.ts'
import {
  makeFirstTrustSet,
  makeNextTrustSet,
  type SignedTrust,
  type TrustContent,
} from '../../shared/trust/make-trust-set.ts'
import type { Fleet } from './fleet.ts'

export interface OperatorOptions {
  /** Where a fleet.toml of the test's own names it; random otherwise. */
  readonly fleetId?: string
  readonly trust?: Partial<TrustContent>
  /** Whether the coordinator is given the first trust set at once. */
  readonly giveTrust?: boolean
}

export interface PublishOptions {
  /** A folder with fleet.toml and whatever it needs; its fleet id must be the operator's. */
  readonly directory?: string
  /** What stands in fleet.toml after [fleet], where no folder is given. */
  readonly toml?: string
  /** Further files beside that fleet.toml. */
  readonly files?: Readonly<Record<string, string>>
  readonly mode?: TargetMode
  /** Changes the targets before they are named in the manifest. */
  readonly change?: (targets: readonly Target[]) => readonly Target[]
  /** Laid over what a well-meaning publisher would write. */
  readonly manifest?: Partial<ManifestInput>
  readonly signers?: readonly SigningKeyPair[]
  readonly renew?: boolean
}

/** A revision that was made, whether or not anybody took it. */
export interface MadeRevision extends BuiltManifest {
  readonly envelope: Envelope
  readonly number: number
  readonly digest: string
  /** The packed tree. */
  readonly treeFile: string
}

/** Who holds the signing keys of a fleet: makes trust sets and revisions with the very code the command uses. */
export class Operator implements AsyncDisposable {
  readonly fleetId: string
  readonly recoveryKey = generateSigningKey()
  /** The keys that sign now. */
  keys: readonly SigningKeyPair[] = [generateSigningKey()]
  /** All trust sets so far, the newest last. */
  readonly sets: SignedTrust[] = []
  /** What was published so far, the newest last. */
  readonly revisions: MadeRevision[] = []
  readonly #fleet: Fleet
  readonly #dir: string

  constructor(fleet: Fleet, dir: string, fleetId: string) {
    this.#fleet = fleet
    this.#dir = dir
    this.fleetId = fleetId
  }

  get trust(): SignedTrust {
    const newest = this.sets.at(-1)
    if (!newest) throw new Error('no trust set was made yet')
    return newest
  }

  /** What a machine is given beside the CA pin. */
  get trustPin(): string {
    return this.trust.trust.digest
  }

  firstTrust(content: Partial<TrustContent> = {}): SignedTrust {
    const signed = makeFirstTrustSet({
      fleetId: this.fleetId,
      keys: this.keys.map(key => ({ key, comment: 'operator' })),
      threshold: 1,
      recoveryKeys: [{ key: this.recoveryKey, comment: 'in the safe' }],
      caPins: [],
      coordinators: [],
      ...content,
      created: new Date(),
      signers: this.keys,
    })
    this.sets.push(signed)
    return signed
  }

  /** Makes the next trust set, signed by the keys in force. */
  nextTrust(change: Partial<TrustContent>, signers: readonly SigningKeyPair[] = this.keys): SignedTrust {
    const signed = makeNextTrustSet({ current: this.trust.trust, change, created: new Date(), signers })
    this.sets.push(signed)
    return signed
  }

  /** Makes a set with a new key and gives up the old one. */
  rotateKey(): SignedTrust {
    const key = generateSigningKey()
    const signed = this.nextTrust({ keys: [{ key, comment: 'new key' }] })
    this.keys = [key]
    return signed
  }

  /** Gives the coordinator all sets so far. */
  async giveTrust(): Promise<void> {
    await this.#fleet.api.setFleetTrust({ trust: this.chain() })
  }

  chain(): { envelopes: Envelope[] } {
    return { envelopes: this.sets.map(({ envelope }) => envelope) }
  }

  /** Makes the next revision and gives it to nobody. */
  async make(options: PublishOptions = {}): Promise<MadeRevision> {
    const directory = options.directory ?? (await this.#writeDirectory(options))
    const path = join(directory, 'fleet.toml')
    const read = readFleetFile(await readFile(path, 'utf8'), path)
    if (!read.ok) throw new Error(formatProblems(read.problems))
    if (read.fleet.id !== this.fleetId) throw new Error(`${path}: names fleet ${read.fleet.id}`)
    const treeFile = join(this.#dir, `tree-${randomId()}`)
    const tree = await packTree(directory, treeFile)
    if (tree.kind === 'refused') throw new Error(tree.reason)
    const targets = fleetTargets(read.fleet, options.mode ?? { mode: 'source' })
    const before = this.revisions.at(-1)
    const built = buildManifest({
      fleetId: this.fleetId,
      number: (before?.number ?? 0) + 1,
      predecessor: before?.digest ?? '',
      floor: read.fleet.floor ?? Number(before?.manifest.floor ?? 1),
      tree,
      targets: options.change?.(targets) ?? targets,
      clusters: clusterEntries(read.fleet),
      rollout: rolloutPolicyMessage(read.fleet),
      created: new Date(),
      expires: new Date(Date.now() + read.fleet.expiresDays * 86_400_000),
      provenance: { commit: '', dirty: false, lockDigest: '', publisher: 'test@here', tool: 'test' },
      leastNixVersion: read.fleet.leastNixVersion ?? '',
      trustSet: this.trust.envelope,
      ...options.manifest,
    })
    const envelope = signEnvelope(built.payload, MANIFEST_TYPE, options.signers ?? this.keys)
    const { number, digest } = built.manifest
    return { ...built, envelope, number, digest, treeFile }
  }

  /** Makes a revision and publishes it as `muster publish` does. */
  async publish(options: PublishOptions = {}): Promise<MadeRevision> {
    const made = await this.make(options)
    await this.give(made, options.renew)
    this.revisions.push(made)
    return made
  }

  /** Sends a revision that was made to the coordinator. */
  async give(made: MadeRevision, renew = false): Promise<void> {
    await this.#fleet.api.publishRevision(uploadOf(made, renew), { deadlineMs: 60_000 })
  }

  async #writeDirectory({ toml = '', files = {} }: PublishOptions): Promise<string> {
    const directory = await mkdtemp(join(this.#dir, 'fleet-'))
    const all = { 'fleet.toml': `[fleet]\nname = "home"\nid = "${this.fleetId}"\n\n${toml}\n`, ...files }
    for (const [name, text] of Object.entries(all)) {
      await mkdir(dirname(join(directory, name)), { recursive: true })
      await writeFile(join(directory, name), text)
    }
    return directory
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#dir, { recursive: true, force: true })
  }
}

/** The messages that publish a revision. */
export async function* uploadOf(
  made: MadeRevision,
  renew = false,
): AsyncGenerator<MessageInitShape<typeof PublishRevisionRequestSchema>> {
  const header = create(PublishHeaderSchema, {
    envelope: made.envelope,
    targets: made.targets.map(({ bytes }) => bytes),
    expectedPredecessor: made.manifest.manifest.predecessor,
    renew,
  })
  yield { part: { case: 'header', value: header } }
  if (renew) return
  for await (const chunk of createReadStream(made.treeFile, { highWaterMark: 64 * 1024 })) {
    yield { part: { case: 'chunk', value: chunk } }
  }
}

/** An operator with keys of his own; the coordinator has his first trust set unless told otherwise. */
export async function addOperator(fleet: Fleet, options: OperatorOptions = {}): Promise<Operator> {
  const dir = await mkdtemp(join(tmpdir(), 'mo-'))
  const operator = new Operator(fleet, dir, options.fleetId ?? randomId())
  operator.firstTrust(options.trust)
  if (options.giveTrust !== false) await operator.giveTrust()
  return operator
}
