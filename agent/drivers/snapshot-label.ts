import { at, isObject, readObject, textAt } from '../../shared/read-value.ts'
import { DISTRIBUTIONS, type Distribution } from './cluster-facts.ts'

/** The file beside the datastore's copy that says what it is a copy of. Snapshots of before there was one have none. */
export const LABEL = 'snapshot.json'

/** What a snapshot says of itself. It holds no secret. */
export interface SnapshotLabel {
  readonly cluster: string
  readonly distribution: Distribution
  /** The Kubernetes that ran, "1.34.3"; undefined: its server did not say. */
  readonly version: string | undefined
  /** SHA-256 (hex) of the SubjectPublicKeyInfo of the cluster's authority. */
  readonly authority: string
  /** The node that made it. */
  readonly node: string
  readonly made: string
  /** Everything else in the folder, with its bytes. */
  readonly files: ReadonlyMap<string, number>
}

const FORMAT = 1

export function writeLabel({ files, ...plain }: SnapshotLabel): string {
  return `${JSON.stringify({ format: FORMAT, ...plain, files: Object.fromEntries(files) }, undefined, 2)}\n`
}

/** undefined: it is no label that this program knows. */
export function readLabel(text: string): SnapshotLabel | undefined {
  const value = readObject(text)
  const listed = value && at(value, 'files')
  if (!value || at(value, 'format') !== FORMAT || !isObject(listed)) return undefined
  const cluster = textAt(value, 'cluster')
  const distribution = DISTRIBUTIONS.find(each => each === textAt(value, 'distribution'))
  const authority = textAt(value, 'authority')
  if (cluster === undefined || distribution === undefined || authority === undefined) return undefined
  const files = new Map<string, number>()
  for (const [path, bytes] of Object.entries(listed)) {
    if (typeof bytes !== 'number') return undefined
    files.set(path, bytes)
  }
  const version = textAt(value, 'version')
  const [node, made] = [textAt(value, 'node') ?? '', textAt(value, 'made') ?? '']
  return { cluster, distribution, version, authority, node, made, files }
}
