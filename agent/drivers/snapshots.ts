import type { System } from '../system/system.ts'
import type { Snapshot } from './driver.ts'
import type { ClusterFiles } from './node/cluster-files.ts'
import { done, failed, type Result } from './result.ts'

/**
 * Snapshots lie below the agent's state, each in a folder for root alone: the datastore's copy and what is needed to use it.
 * A folder gets its name when it is whole.
 */
export const snapshotsIn = (files: ClusterFiles): string => `${files.stateDir}/snapshots`

const PARTIAL = '.partial'
const MAX_SNAPSHOTS = 1_000

export const isSnapshotName = (name: string): boolean =>
  /^[a-z0-9][a-z0-9.-]{0,62}$/.test(name) && !name.endsWith(PARTIAL)

/** Has a snapshot made in a folder of its own; `make` answers the name of the datastore's copy in it. */
export async function makeSnapshot(
  system: System,
  files: ClusterFiles,
  name: string,
  make: (folder: string) => Promise<Result<void>>,
): Promise<Result<Snapshot>> {
  if (!isSnapshotName(name))
    return failed(
      'precondition',
      `${name}: is no name for a snapshot; wanted lower-case letters, digits, hyphens`,
    )
  const folder = `${snapshotsIn(files)}/${name}`
  const known = await findSnapshot(system, files, name)
  if (known) return done(known)
  await files.makeFolder(snapshotsIn(files))
  await files.remove(`${folder}${PARTIAL}`)
  await files.makeFolder(`${folder}${PARTIAL}`)
  const made = await make(`${folder}${PARTIAL}`)
  if (made.kind === 'failed') {
    await files.remove(`${folder}${PARTIAL}`)
    return made
  }
  await files.move(`${folder}${PARTIAL}`, folder)
  const snapshot = await findSnapshot(system, files, name)
  return snapshot
    ? done(snapshot)
    : failed('command', `snapshot ${name}: its datastore's copy is not in ${folder}`)
}

/** What is beside the datastore's copy in a snapshot's folder. */
export const BESIDE = ['token', 'agent-token', 'pki']

export async function findSnapshot(
  system: System,
  files: ClusterFiles,
  name: string,
): Promise<Snapshot | undefined> {
  const folder = `${snapshotsIn(files)}/${name}`
  const copy = (await files.list(folder)).find(each => !BESIDE.includes(each))
  if (copy === undefined) return undefined
  const path = `${folder}/${copy}`
  const reading = await system.stat(path)
  if (reading.kind !== 'stat' || reading.sizeBytes === 0) return undefined
  return { name, path, bytes: reading.sizeBytes, madeMs: reading.modifiedMs }
}

export async function listSnapshots(
  system: System,
  files: ClusterFiles,
): Promise<Result<readonly Snapshot[]>> {
  const names = (await files.list(snapshotsIn(files))).filter(isSnapshotName)
  if (names.length > MAX_SNAPSHOTS)
    return failed('unreadable', `more than ${MAX_SNAPSHOTS} snapshots in ${snapshotsIn(files)}`)
  const found: Snapshot[] = []
  for (const name of names) {
    const snapshot = await findSnapshot(system, files, name)
    if (snapshot) found.push(snapshot)
  }
  return done(found.sort((a, b) => a.madeMs - b.madeMs))
}
