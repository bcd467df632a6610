import { randomBytes } from 'node:crypto'
import { cp } from 'node:fs/promises'
import { join } from 'node:path'
import { create, toBinary } from '@bufbuild/protobuf'
import { readAuthorities } from '../../coordinator/authority/authority-file.ts'
import { issueClient } from '../../coordinator/authority/issue-client.ts'
import { makeServerLeaf } from '../../coordinator/authority/server-leaf.ts'
import { identityColumns, identityOfFacts } from '../../coordinator/machines/identity.ts'
import { insertFacts } from '../../coordinator/store/facts.ts'
import { insertMachine, newMachineRow } from '../../coordinator/store/machines.ts'
import { openStore } from '../../coordinator/store/store.ts'
import { systemClock } from '../../shared/clock.ts'
import { signEnvelope } from '../../shared/envelope/envelope.ts'
import { generateSigningKey } from '../../shared/envelope/keys.ts'
import { MANIFEST_TYPE } from '../../shared/envelope/payload-types.ts'
import { SessionResponseSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { FactsSchema } from '../../shared/gen/muster/v1/facts_pb.ts'
import { TargetSchema } from '../../shared/gen/muster/v1/manifest_pb.ts'
import {
  type PublishRevisionRequest,
  PublishRevisionRequestSchema,
} from '../../shared/gen/muster/v1/revision_pb.ts'
import { randomId, sha256Hex } from '../../shared/ids.ts'
import { buildManifest } from '../../shared/revision/build-manifest.ts'
import { makeFirstTrustSet } from '../../shared/trust/make-trust-set.ts'
import type { Authority } from '../../shared/x509/authority.ts'
import { keyId } from '../../shared/x509/key-id.ts'
import { keyPool, type PoolKey } from './key-pool.ts'
import { madeUpFacts, serialOf } from './made-up-facts.ts'

const DAY_MS = 86_400_000
const TREE_BYTES = 64 * 1024

/** The authority that a coordinator made in its state folder. */
export async function authorityIn(stateDir: string): Promise<Authority> {
  const kept = await readAuthorities(join(stateDir, 'authority'))
  const first = kept?.authorities[0]
  if (!first) throw new Error(`${stateDir}: the coordinator made no authority`)
  return first.authority
}

/** What a floor shows: a certificate like the coordinator's own, by the same code from the same authority. */
export async function floorCertificate(authority: Authority) {
  const { privateKeyPem, chainPem } = await makeServerLeaf({
    authority,
    sans: [{ kind: 'ip', value: '127.0.0.1' }],
    lifetimeMs: 30 * DAY_MS,
    clock: systemClock,
  })
  return { keyPem: privateKeyPem, chainPem, caPem: authority.certificatePem }
}

/** Machine certificates like those that enrolment gives, one for each key. */
export function machineChains(authority: Authority, keys: readonly PoolKey[]): string[] {
  return keys.map(({ publicKeyDer }) => {
    const request = {
      authority,
      publicKeyDer,
      kind: 'machine',
      lifetimeMs: 30 * DAY_MS,
      now: new Date(),
    } as const
    const issued = issueClient(request)
    if (!issued.ok) throw new Error(issued.reason)
    return issued.certificate.chainPem
  })
}

/**
 * Makes a state folder with `count` active machines in it, of the authority of another folder or of this one. They are
 * written by the coordinator's own functions in the form that enrolment leaves, without the connections of an enrolment.
 */
export async function seedState(input: {
  readonly from: string
  readonly stateDir: string
  readonly keys: string
  readonly count: number
}): Promise<void> {
  if (input.from !== input.stateDir) {
    await cp(join(input.from, 'authority'), join(input.stateDir, 'authority'), { recursive: true })
  }
  const nowMs = Date.now()
  await using store = await openStore(join(input.stateDir, 'store.sqlite'), new Date(nowMs))
  const keys = await keyPool(input.keys, input.count)
  await store.transact(async tx => {
    for (const [index, { publicKeyDer }] of keys.entries()) {
      const id = keyId(publicKeyDer)
      const facts = madeUpFacts(index)
      const bytes = toBinary(FactsSchema, facts)
      const digest = sha256Hex(bytes)
      await insertMachine(tx, {
        ...newMachineRow({ id, publicKey: publicKeyDer, state: 'active', nowMs, address: '127.0.0.1' }),
        ...identityColumns(identityOfFacts(facts)),
        admitted_by: 'token bench',
        admitted_at: nowMs,
        certificate_not_after: nowMs + 30 * DAY_MS,
        facts_digest: digest,
        simulated: 1,
      })
      await insertFacts(tx, { machine: id, digest, at: nowMs, facts: bytes })
    }
  })
}

/** A fleet whose revisions are signed with real keys, one host for each emulated machine. */
export class BenchFleet {
  readonly #key = generateSigningKey()
  readonly #fleetId = randomId()
  readonly #agents: number
  readonly trust
  #number = 0
  #predecessor = ''

  constructor(agents: number) {
    this.#agents = agents
    this.trust = makeFirstTrustSet({
      fleetId: this.#fleetId,
      created: new Date(),
      signers: [this.#key],
      keys: [{ key: this.#key, comment: 'bench' }],
      threshold: 1,
      recoveryKeys: [],
      caPins: [],
      coordinators: [],
    })
  }

  /** The next revision, as an operator sends it, and the notice of it that every machine must get. */
  nextRevision(): { readonly parts: readonly PublishRevisionRequest[]; readonly notice: Uint8Array } {
    const tree = randomBytes(TREE_BYTES)
    const created = new Date()
    const built = buildManifest({
      fleetId: this.#fleetId,
      number: ++this.#number,
      predecessor: this.#predecessor,
      floor: 1,
      tree: { digest: sha256Hex(tree), length: tree.length },
      targets: Array.from({ length: this.#agents }, (_, index) =>
        create(TargetSchema, {
          fleetId: this.#fleetId,
          host: `bench-${index}`,
          system: 'x86_64-linux',
          role: 'none',
          binding: { serial: serialOf(index) },
          way: { case: 'source', value: { attribute: `bench-${index}` } },
        }),
      ),
      created,
      expires: new Date(created.getTime() + 30 * DAY_MS),
      provenance: { commit: '', dirty: false, lockDigest: '', publisher: 'bench', tool: 'bench' },
      trustSet: this.trust.envelope,
    })
    const { digest } = built.manifest
    const envelope = signEnvelope(built.payload, MANIFEST_TYPE, [this.#key])
    const header = {
      envelope,
      targets: built.targets.map(({ bytes }) => bytes),
      expectedPredecessor: this.#predecessor,
      renew: false,
    }
    this.#predecessor = digest
    const notice = { number: BigInt(this.#number), manifestDigest: digest, envelope }
    return {
      parts: [
        create(PublishRevisionRequestSchema, { part: { case: 'header', value: header } }),
        create(PublishRevisionRequestSchema, { part: { case: 'chunk', value: tree } }),
      ],
      notice: toBinary(
        SessionResponseSchema,
        create(SessionResponseSchema, { message: { case: 'revision', value: notice } }),
      ),
    }
  }
}
