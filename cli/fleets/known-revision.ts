import { join } from 'node:path'
import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { status } from '@grpc/grpc-js'
import { readFileIfThere, writeFileDurably } from '../../shared/durable-file.ts'
import type { Envelope } from '../../shared/gen/muster/v1/envelope_pb.ts'
import type { Target } from '../../shared/gen/muster/v1/manifest_pb.ts'
import {
  type GetFleetRevisionResponse,
  GetFleetRevisionResponseSchema,
} from '../../shared/gen/muster/v1/revision_pb.ts'
import type { KnownManifest } from '../../shared/revision/read-manifest.ts'
import { readTarget, targetDigest } from '../../shared/revision/read-target.ts'
import { verifyManifest } from '../../shared/revision/verify-revision.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'
import type { Connection } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import { FLEET_FILES, type FleetKnowledge } from './fleet-folder.ts'
import { setsOf } from './synchronise-trust.ts'

/** A revision whose signatures were found good here, and its targets. */
export interface KnownRevision {
  readonly envelope: Envelope
  readonly manifest: KnownManifest
  readonly targets: readonly Target[]
  readonly targetBytes: readonly Uint8Array[]
  readonly signers: readonly string[]
}

/**
 * Verifies a revision with the trust sets this operator knows: the one in force when it was signed may be an older one
 * than today's.
 */
export function verifyKnown(
  envelope: Envelope | undefined,
  targetBytes: readonly Uint8Array[],
  fleet: Pick<FleetKnowledge, 'chain'>,
): KnownRevision | { readonly kind: 'refused'; readonly reason: string } {
  let reason = 'no trust set is known here'
  for (const trust of setsOf(fleet.chain).reverse()) {
    const verified = verifyManifest(envelope, trust)
    if (verified.kind === 'refused') {
      reason = verified.reason
      continue
    }
    const { manifest, signers } = verified
    const named = new Set([...manifest.hosts.values(), ...manifest.groups.values()])
    const targets: Target[] = []
    for (const bytes of targetBytes) {
      const read = readTarget(bytes)
      if (read.kind === 'refused') return read
      if (!named.has(targetDigest(bytes))) {
        return { kind: 'refused', reason: `revision ${manifest.number} does not name one of the targets` }
      }
      targets.push(read.target)
    }
    if (targets.length !== manifest.hosts.size + manifest.groups.size) {
      return { kind: 'refused', reason: `targets of revision ${manifest.number} are missing` }
    }
    // verifyManifest refuses an envelope that is not there.
    if (!envelope) break
    return { envelope, manifest, signers, targets, targetBytes }
  }
  return { kind: 'refused', reason }
}

/** Fetches a revision and verifies it; undefined when the coordinator has none. 0 is the newest. */
export async function fetchRevision(
  { client, call, place }: Connection,
  fleet: FleetKnowledge,
  number: number,
): Promise<KnownRevision | undefined> {
  let response: GetFleetRevisionResponse
  try {
    response = await client.getFleetRevision({ number: BigInt(number) }, call)
  } catch (error) {
    if (error instanceof RpcError && error.code === status.NOT_FOUND && number === 0) return undefined
    throw error
  }
  const known = verifyKnown(response.envelope, response.targets, fleet)
  if ('kind' in known) {
    throw new CliError(
      'refused',
      `the coordinator at ${place} shows a revision that is not good: ${known.reason}`,
    )
  }
  if (number !== 0 && known.manifest.number !== number) {
    throw new CliError(
      'refused',
      `the coordinator at ${place} shows revision ${known.manifest.number} for ${number}`,
    )
  }
  return known
}

/** The newest revision that was seen from here: nobody can make this operator go back behind it unnoticed. */
export async function readLastSeen(fleet: FleetKnowledge): Promise<KnownRevision | undefined> {
  const path = join(fleet.folder, FLEET_FILES.lastSeen)
  const bytes = await readFileIfThere(path)
  if (!bytes) return undefined
  let stored: GetFleetRevisionResponse
  try {
    stored = fromBinary(GetFleetRevisionResponseSchema, bytes)
  } catch {
    throw new CliError(
      'error',
      `${path}: is damaged; remove it if the newest revision of the coordinator is right`,
    )
  }
  const known = verifyKnown(stored.envelope, stored.targets, fleet)
  if ('kind' in known) throw new CliError('error', `${path}: ${known.reason}`)
  return known
}

export async function writeLastSeen(
  fleet: FleetKnowledge,
  { envelope, targetBytes }: Pick<KnownRevision, 'envelope' | 'targetBytes'>,
): Promise<void> {
  const record = create(GetFleetRevisionResponseSchema, { envelope, targets: [...targetBytes] })
  await writeFileDurably(
    join(fleet.folder, FLEET_FILES.lastSeen),
    toBinary(GetFleetRevisionResponseSchema, record),
  )
}
