import { layoutOf } from '../../shared/kubernetes/distributions.ts'
import { minorsAhead, parseVersion } from '../../shared/kubernetes/version.ts'
import type { ClusterFacts } from './cluster-facts.ts'
import { type Failure, failed } from './result.ts'
import type { SnapshotLabel } from './snapshot-label.ts'

/** All that the judgement of a snapshot rests on. */
export interface SnapshotSeen {
  readonly name: string
  readonly folder: string
  /** undefined: it was made before snapshots had one. */
  readonly label: SnapshotLabel | undefined
  /** What is in the folder, with its bytes. */
  readonly files: ReadonlyMap<string, number>
  /** The authority that lies in it by itself; undefined: none does. */
  readonly authority: string | undefined
}

export interface SnapshotWanted {
  readonly facts: Pick<ClusterFacts, 'cluster' | 'distribution'>
  /** Files without which no cluster can be made of it here. */
  readonly needed: readonly string[]
  /** The authority of the cluster that is to go on; undefined: nobody knows. */
  readonly authority: string | undefined
  /** What is installed on this machine; undefined: it does not say. */
  readonly installed: string | undefined
}

/** Why this machine cannot be made the server of its cluster from a snapshot; undefined: it can. */
export function judgeSnapshot(seen: SnapshotSeen, wanted: SnapshotWanted): Failure | undefined {
  const { name, folder, label, files } = seen
  const { facts, needed } = wanted
  const refuse = (why: string) => failed('precondition', `snapshot ${name}: ${why}`)
  const listed = [...(label?.files.keys() ?? [])]
  const missing = [...new Set([...listed, ...needed])].filter(path => !files.has(path))
  if (missing.length > 0) {
    return refuse(
      `${missing.join(', ')} ${missing.length === 1 ? 'is' : 'are'} not in ${folder}: put the whole folder there`,
    )
  }
  for (const [path, bytes] of label?.files ?? []) {
    if (files.get(path) === bytes) continue
    return refuse(`${folder}/${path} has ${files.get(path)} bytes, not ${bytes}: copy it anew`)
  }
  const empty = needed.find(path => files.get(path) === 0)
  if (empty !== undefined) return refuse(`${folder}/${empty} is empty: copy it anew`)
  if (label && label.cluster !== facts.cluster)
    return refuse(`it is of cluster ${label.cluster}, this machine is of ${facts.cluster}`)
  if (label && layoutOf(label.distribution) !== layoutOf(facts.distribution))
    return refuse(`it is of ${label.distribution}, this machine runs ${facts.distribution}`)
  const authority = seen.authority ?? label?.authority
  if (authority !== undefined && wanted.authority !== undefined && authority !== wanted.authority) {
    return refuse(
      `it is of another cluster: its authority is ${authority.slice(0, 12)}, that of cluster ${facts.cluster} is ${wanted.authority.slice(0, 12)}`,
    )
  }
  const why = label?.version === undefined ? undefined : whyVersionsForbid(label.version, wanted.installed)
  return why === undefined ? undefined : refuse(why)
}

/** A datastore is not read by a Kubernetes of an older minor, nor by one that leaves a minor out. */
function whyVersionsForbid(made: string, installed: string | undefined): string | undefined {
  const [of, own] = [parseVersion(made), parseVersion(installed ?? '')]
  if (!of) return undefined
  if (!own) return `it is of Kubernetes ${made}, and what is installed here does not say its version`
  const ahead = minorsAhead(own, of)
  if (ahead < 0)
    return `it is of Kubernetes ${made}, and ${installed} here is older and would not read it: apply a revision with ${of.major}.${of.minor} first`
  if (ahead > 1)
    return `it is of Kubernetes ${made}, and ${installed} here would leave a minor out: apply a revision with ${of.major}.${of.minor} or ${of.major}.${of.minor + 1} first`
  return undefined
}
