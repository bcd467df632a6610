import type { System } from '../../system/system.ts'
import { type ClusterFacts, isServerRole } from '../cluster-facts.ts'
import type { ClusterFiles } from './cluster-files.ts'
import { type DiskData, isDataOf } from './disk-data.ts'

/** A server has been a member of its cluster, and its datastore is not there: its units do not start. */
export interface LostDatastore {
  /** The authority that the machine belonged to. */
  readonly authority: string
  /** Where its datastore should be. */
  readonly path: string
}

/** What is in every datastore of etcd from its first start on, whoever runs it; the units' guard looks for the same. */
const DATABASE = 'snap/db'

/**
 * Whether this machine is such a server; a text says what could not be told. Nothing of the kind is said of data that is not ours, of
 * what founds or joins right now, and while Kubernetes is held down: then somebody may be about to put it there or to take it away.
 */
export async function readLostDatastore(
  system: System,
  files: Pick<ClusterFiles, 'readMark'>,
  facts: ClusterFacts,
  datastore: string,
  data: DiskData,
): Promise<LostDatastore | string | undefined> {
  if (!isServerRole(facts.role) || (await files.readMark('member')) === undefined) return undefined
  for (const mark of ['begun', 'hold'] as const)
    if ((await files.readMark(mark)) !== undefined) return undefined
  const authority = await files.readMark('ours')
  if (authority === undefined || data.kind === 'unreadable') return undefined
  if (data.kind === 'cluster' && (data.authority !== authority || !isDataOf(data, facts.distribution)))
    return undefined
  const existence = await system.exists(`${datastore}/${DATABASE}`)
  if (existence.kind === 'unreadable') return `${datastore}/${DATABASE}: ${existence.code}`
  return existence.kind === 'present' ? undefined : { authority, path: datastore }
}

/** What such a server is told that wants to do something, in one sentence. */
export const describeLost = ({ path }: LostDatastore): string =>
  `this server has been a member of its cluster, and its datastore ${path} is gone: another server takes it out (\`muster leave HOST --dead\`), then it is wiped and joins anew (\`muster rejoin HOST --wipe\`)`
