import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import type { Envelope } from '../gen/muster/v1/envelope_pb.ts'
import {
  type ClusterEntrySchema,
  ManifestSchema,
  type RolloutPolicy,
  type Target,
} from '../gen/muster/v1/manifest_pb.ts'
import { contradiction, sortedClusters } from './clusters.ts'
import { type KnownManifest, readManifest } from './read-manifest.ts'
import { type EncodedTarget, encodeTarget } from './read-target.ts'

export interface ManifestInput {
  readonly fleetId: string
  readonly number: number
  /** Digest of the predecessor's payload; empty for number 1. */
  readonly predecessor: string
  readonly floor: number
  readonly tree: { readonly digest: string; readonly length: number }
  /** One for each host and group. */
  readonly targets: readonly Target[]
  /** One for each cluster; none: the fleet has none. */
  readonly clusters?: readonly MessageInitShape<typeof ClusterEntrySchema>[]
  readonly created: Date
  readonly expires: Date
  readonly provenance: {
    readonly commit: string
    readonly dirty: boolean
    readonly lockDigest: string
    readonly publisher: string
    readonly tool: string
  }
  readonly leastNixVersion?: string
  /** The trust set in force, as it was signed. */
  readonly trustSet: Envelope
  /** How rollouts go; undefined: nothing is said. */
  readonly rollout?: RolloutPolicy | undefined
}

export interface BuiltManifest {
  readonly manifest: KnownManifest
  /** What is signed. */
  readonly payload: Uint8Array
  readonly targets: readonly EncodedTarget[]
}

/** Builds a manifest and its targets; equal input gives equal bytes. Throws with the field's name on a broken rule. */
export function buildManifest(input: ManifestInput): BuiltManifest {
  const targets = input.targets.map(encodeTarget)
  const stranger = targets.find(({ target }) => target.fleetId !== input.fleetId)
  if (stranger)
    throw new Error(`target of ${stranger.target.host || stranger.target.group}: belongs to another fleet`)
  const payload = toBinary(
    ManifestSchema,
    create(ManifestSchema, {
      fleetId: input.fleetId,
      number: BigInt(input.number),
      predecessor: input.predecessor,
      floor: BigInt(input.floor),
      treeDigest: input.tree.digest,
      treeLength: BigInt(input.tree.length),
      hosts: targets
        .filter(({ target }) => target.host !== '')
        .map(({ target, digest }) => ({ host: target.host, targetDigest: digest }))
        .sort((a, b) => (a.host < b.host ? -1 : 1)),
      groups: targets
        .filter(({ target }) => target.group !== '')
        .map(({ target, digest }) => ({ group: target.group, targetDigest: digest }))
        .sort((a, b) => (a.group < b.group ? -1 : 1)),
      created: timestampFromDate(input.created),
      expires: timestampFromDate(input.expires),
      provenance: input.provenance,
      requirements: { leastNixVersion: input.leastNixVersion ?? '' },
      trustSet: input.trustSet,
      clusters: sortedClusters(input.clusters ?? []),
      ...(input.rollout && { rollout: input.rollout }),
    }),
  )
  const read = readManifest(payload)
  if (read.kind === 'refused') throw new Error(read.reason)
  const { clusters } = read.manifest
  const contrary = targets
    .map(({ target }) => contradiction(clusters, target))
    .find(text => text !== undefined)
  if (contrary !== undefined) throw new Error(`target of ${contrary}`)
  return { manifest: read.manifest, payload, targets }
}
