import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { fromBinary, toBinary } from '@bufbuild/protobuf'
import { makePrivateDirectory, readFileIfThere, writeFileDurably } from '../../shared/durable-file.ts'
import { loadSigningKey, type SigningKeyPair } from '../../shared/envelope/keys.ts'
import { hasCode } from '../../shared/errors.ts'
import type { Envelope } from '../../shared/gen/muster/v1/envelope_pb.ts'
import { type TrustChain, TrustChainSchema } from '../../shared/gen/muster/v1/trust_pb.ts'
import { isFleetId, type KnownTrust } from '../../shared/trust/trust-set.ts'
import { walkTrust } from '../../shared/trust/walk-trust.ts'
import { CliError } from '../exit-codes.ts'
import { readPrivateFile } from './private-file.ts'

/** What an operator keeps of one fleet. */
export const FLEET_FILES = {
  signingKey: 'signing.key',
  recoveryKey: 'recovery.key',
  trust: 'trust.bin',
  lastSeen: 'last-revision.bin',
} as const

/** An operator's own knowledge of a fleet: the trust sets it has seen, in order. */
export interface FleetKnowledge {
  readonly fleetId: string
  readonly folder: string
  readonly chain: readonly Envelope[]
  /** The newest set. */
  readonly trust: KnownTrust
}

export function fleetFolder(configHome: string, fleetId: string): string {
  if (!isFleetId(fleetId)) throw new CliError('error', 'fleet id: must be 32 lower-case hex characters')
  return join(configHome, 'fleets', fleetId)
}

/** Ids of the fleets this operator has a folder for. */
export async function listFleets(configHome: string): Promise<string[]> {
  try {
    return (await readdir(join(configHome, 'fleets'))).filter(isFleetId).sort()
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return []
    throw error
  }
}

/** Reads what this operator knows of a fleet; undefined when it has no trust set of it. */
export async function readFleet(configHome: string, fleetId: string): Promise<FleetKnowledge | undefined> {
  const folder = fleetFolder(configHome, fleetId)
  const path = join(folder, FLEET_FILES.trust)
  const bytes = await readFileIfThere(path)
  if (!bytes) return undefined
  const { envelopes: chain } = decodeChain(bytes, path)
  const walk = walkTrust({ kind: 'first-use' }, chain)
  if (walk.kind === 'refused') throw new CliError('refused', `${path}: ${walk.reason}`)
  if (walk.trust.set.fleetId !== fleetId) throw new CliError('refused', `${path}: belongs to another fleet`)
  return { fleetId, folder, chain, trust: walk.trust }
}

export async function requireFleet(configHome: string, fleetId: string): Promise<FleetKnowledge> {
  const fleet = await readFleet(configHome, fleetId)
  if (fleet) return fleet
  throw new CliError(
    'notFound',
    `${join(fleetFolder(configHome, fleetId), FLEET_FILES.trust)}: no such file; the trust set of fleet ${fleetId} and its signing key ` +
      'lie with whoever ran `muster init`: copy that folder here, or set MUSTER_CONFIG_HOME',
  )
}

export async function saveTrust(folder: string, chain: readonly Envelope[]): Promise<void> {
  await makePrivateDirectory(folder)
  await writeFileDurably(join(folder, FLEET_FILES.trust), encodeChain(chain))
}

export function encodeChain(chain: readonly Envelope[]): Uint8Array {
  return toBinary(TrustChainSchema, { $typeName: 'muster.v1.TrustChain', envelopes: [...chain] })
}

export function decodeChain(bytes: Uint8Array, place: string): TrustChain {
  try {
    const chain = fromBinary(TrustChainSchema, bytes)
    if (chain.envelopes.length > 0) return chain
  } catch {
    // Said below, for both cases.
  }
  throw new CliError(
    'error',
    `${place}: holds no trust set; expected the file trust.bin that \`muster init\` wrote`,
  )
}

/** The keys that shall sign: those of the files given, else the operator's own. */
export async function loadKeys(
  fleet: Pick<FleetKnowledge, 'folder'>,
  files: readonly string[] | undefined,
): Promise<SigningKeyPair[]> {
  const own = join(fleet.folder, FLEET_FILES.signingKey)
  const paths = files && files.length > 0 ? files : [own]
  return Promise.all(
    paths.map(async path => {
      const pem = await readPrivateFile(
        path,
        'this operator has no signing key of the fleet; say --key FILE, or copy it here with mode 0600',
      )
      try {
        return loadSigningKey(pem)
      } catch (error) {
        throw new CliError(
          'error',
          `${path}: is no Ed25519 private key in PEM, as \`muster init\` writes it`,
          {
            cause: error,
          },
        )
      }
    }),
  )
}
