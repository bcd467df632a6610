import { fromBinary } from '@bufbuild/protobuf'
import { type Manifest, ManifestSchema, type Provenance } from '../gen/muster/v1/manifest_pb.ts'
import { isDigest, sha256Hex } from '../ids.ts'
import { type RolloutPolicy, readRolloutPolicy } from '../rollout/rollout-policy.ts'
import { instantOf } from '../time.ts'
import { MAX_TREE_BYTES } from '../tree/tree-limits.ts'
import { isFleetId } from '../trust/trust-set.ts'
import { type KnownCluster, readClusters } from './clusters.ts'
import { isHostName } from './host-name.ts'

const MAX_TARGETS = 20_000
const MAX_TEXT_CHARS = 256

/** A manifest that was checked, with what its messages hold in plain types. */
export interface KnownManifest {
  readonly manifest: Manifest
  readonly number: number
  readonly floor: number
  readonly digest: string
  readonly created: Date
  readonly expires: Date
  /** Host name to target digest. */
  readonly hosts: ReadonlyMap<string, string>
  /** Group name to target digest. */
  readonly groups: ReadonlyMap<string, string>
  /** By name; empty in a manifest from before there were any. */
  readonly clusters: ReadonlyMap<string, KnownCluster>
  readonly rollout: RolloutPolicy
}

export type ReadManifest =
  | { readonly kind: 'ok'; readonly manifest: KnownManifest }
  | { readonly kind: 'refused'; readonly reason: string }

/** SHA-256 (hex) of a manifest's payload: the revision's identity. */
export function manifestDigest(payload: Uint8Array): string {
  return sha256Hex(payload)
}

/** Decodes and checks a manifest whose signatures were already found good. A field that is missing is refused. */
export function readManifest(payload: Uint8Array): ReadManifest {
  let manifest: Manifest
  try {
    manifest = fromBinary(ManifestSchema, payload)
  } catch {
    return refused('manifest: not decodable')
  }
  const problem = checkIdentity(manifest) ?? checkTree(manifest) ?? checkProvenance(manifest.provenance)
  if (problem) return refused(problem)
  const created = instantOf(manifest.created)
  if (!created) return refused('manifest created: missing or not a time')
  const expires = instantOf(manifest.expires)
  if (!expires) return refused('manifest expires: missing or not a time')
  if (expires <= created) return refused('manifest expires: must be later than created')
  if (!manifest.trustSet) return refused('manifest trust_set: missing')
  const hosts = readEntries(
    'hosts',
    manifest.hosts.map(entry => [entry.host, entry.targetDigest]),
  )
  if (typeof hosts === 'string') return refused(hosts)
  const groups = readEntries(
    'groups',
    manifest.groups.map(entry => [entry.group, entry.targetDigest]),
  )
  if (typeof groups === 'string') return refused(groups)
  const clusters = readClusters(manifest, hosts)
  if (typeof clusters === 'string') return refused(clusters)
  const rollout = readRolloutPolicy(manifest.rollout)
  if (rollout.kind === 'refused') return refused(`manifest rollout ${rollout.reason}`)
  const number = Number(manifest.number)
  const floor = Number(manifest.floor)
  const digest = manifestDigest(payload)
  return {
    kind: 'ok',
    manifest: {
      manifest,
      number,
      floor,
      digest,
      created,
      expires,
      hosts,
      groups,
      clusters,
      rollout: rollout.value,
    },
  }
}

function checkIdentity({ fleetId, number, predecessor, floor }: Manifest): string | undefined {
  if (!isFleetId(fleetId)) return 'manifest fleet_id: must be 32 lower-case hex characters'
  if (number < 1n || number > BigInt(Number.MAX_SAFE_INTEGER)) return 'manifest number: must be at least 1'
  if (number === 1n && predecessor !== '') return 'manifest predecessor: number 1 has none'
  if (number > 1n && !isDigest(predecessor))
    return 'manifest predecessor: must be 64 lower-case hex characters'
  return floor < 1n || floor > number ? 'manifest floor: must be from 1 to the number' : undefined
}

function checkTree({ treeDigest, treeLength, requirements }: Manifest): string | undefined {
  if (!isDigest(treeDigest)) return 'manifest tree_digest: must be 64 lower-case hex characters'
  if (treeLength < 1n || treeLength > BigInt(MAX_TREE_BYTES)) {
    return `manifest tree_length: must be from 1 to ${MAX_TREE_BYTES}`
  }
  const nix = requirements?.leastNixVersion ?? ''
  return nix === '' || /^[0-9]{1,6}(\.[0-9]{1,6}){0,3}$/.test(nix)
    ? undefined
    : 'manifest requirements least_nix_version: must be such as 2.8'
}

function checkProvenance(provenance: Provenance | undefined): string | undefined {
  if (!provenance) return 'manifest provenance: missing'
  const { commit, lockDigest, publisher, tool } = provenance
  if (!/^([0-9a-f]{40}|[0-9a-f]{64})?$/.test(commit))
    return 'manifest provenance commit: must be 40 or 64 hex digits'
  if (lockDigest !== '' && !isDigest(lockDigest))
    return 'manifest provenance lock_digest: must be 64 hex digits'
  return publisher.length > MAX_TEXT_CHARS || tool.length > MAX_TEXT_CHARS
    ? `manifest provenance: publisher and tool are at most ${MAX_TEXT_CHARS} characters long`
    : undefined
}

function readEntries(
  field: string,
  entries: readonly (readonly [string, string])[],
): Map<string, string> | string {
  if (entries.length > MAX_TARGETS)
    return `manifest ${field}: ${entries.length}, at most ${MAX_TARGETS} are allowed`
  const byName = new Map<string, string>()
  for (const [name, digest] of entries) {
    if (!isHostName(name)) return `manifest ${field}: a name must be a-z, 0-9 and -, at most 63 characters`
    if (!isDigest(digest))
      return `manifest ${field} ${name}: the target digest must be 64 lower-case hex characters`
    if (byName.has(name)) return `manifest ${field} ${name}: stands there twice`
    byName.set(name, digest)
  }
  return byName
}

function refused(reason: string): ReadManifest {
  return { kind: 'refused', reason }
}
