import { clone, toBinary } from '@bufbuild/protobuf'
import { type Target, TargetSchema } from '../gen/muster/v1/manifest_pb.ts'

/**
 * The bytes of a target, of which the manifest signs the digest. Map keys are sorted, so equal targets have equal bytes
 * whatever the order in which their labels were written.
 */
export function encodeTarget(target: Target): Uint8Array {
  const ordered = clone(TargetSchema, target)
  ordered.labels = Object.fromEntries(
    Object.entries(target.labels).toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)),
  )
  return toBinary(TargetSchema, ordered)
}
