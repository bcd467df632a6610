import {
  isForChange,
  isSnapshotName,
  PARTIAL,
  SNAPSHOT_NAME_RULE,
} from '../../shared/kubernetes/snapshot-name.ts'
import type { System } from '../system/system.ts'
import type { Snapshot } from './driver.ts'
import { type Distributed, ownAuthority, runningVersion } from './driver-base.ts'
import { dropOlder } from './drop-snapshots.ts'
import type { SnapshotSeen } from './judge-snapshot.ts'
import { authorityIdIn } from './node/certificates.ts'
import type { ClusterFiles } from './node/cluster-files.ts'
import { done, failed, type Result } from './result.ts'
import { snapshotsIn } from './snapshot-folder.ts'
import { LABEL, readLabel, writeLabel } from './snapshot-label.ts'

/** Has a snapshot made in a folder of its own; `make` answers the name of the datastore's copy in it. */
export async function makeSnapshot(
  of: Distributed,
  name: string,
  make: (folder: string) => Promise<Result<void>>,
): Promise<Result<Snapshot>> {
  const { system, files } = of.deps
  if (!isSnapshotName(name)) return failed('precondition', `${name}: ${SNAPSHOT_NAME_RULE}`)
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
  await labelSnapshot(of, `${folder}${PARTIAL}`)
  await files.move(`${folder}${PARTIAL}`, folder)
  const snapshot = await findSnapshot(system, files, name)
  if (!snapshot) return failed('command', `snapshot ${name}: its datastore's copy is not in ${folder}`)
  if (isForChange(name)) {
    const listed = await listSnapshots(system, files)
    if (listed.kind === 'done') await dropOlder(of, name, listed.value)
  }
  return done(snapshot)
}

/** Says beside the copy what it is of, so that it can be told when it was carried elsewhere. */
async function labelSnapshot(of: Distributed, folder: string): Promise<void> {
  const { files, facts, nodeName, clock } = of.deps
  const authority = await ownAuthority(of)
  // What cannot be named is as good as it was before there were labels.
  if (authority === undefined) return
  const { cluster, distribution } = facts
  const label = { cluster, distribution, authority, node: nodeName, made: clock.now().toISOString() }
  const version = await runningVersion(of.kubectl)
  await files.write(`${folder}/${LABEL}`, writeLabel({ ...label, version, files: await files.sizes(folder) }))
}

/** What is beside the datastore's copy in a snapshot's folder. */
const BESIDE = ['token', 'agent-token', 'pki', LABEL]

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
  const text = (await files.read(`${folder}/${LABEL}`))?.toString('utf8')
  const cluster = text === undefined ? undefined : readLabel(text)?.cluster
  return { name, path, bytes: reading.sizeBytes, madeMs: reading.modifiedMs, cluster }
}

/** However many there are: a server whose copies nobody counted must not be kept from making the next. */
export async function listSnapshots(
  system: System,
  files: ClusterFiles,
): Promise<Result<readonly Snapshot[]>> {
  const names = (await files.list(snapshotsIn(files))).filter(isSnapshotName)
  const found: Snapshot[] = []
  for (const name of names) {
    const snapshot = await findSnapshot(system, files, name)
    if (snapshot) found.push(snapshot)
  }
  return done(found.sort((a, b) => a.madeMs - b.madeMs))
}

/** A snapshot with all that it is judged by. Refused where anybody but root may have had his hands in it. */
export async function openSnapshot(of: Distributed, name: string): Promise<Result<Snapshot & SnapshotSeen>> {
  const { system, files } = of.deps
  const folder = `${snapshotsIn(files)}/${name}`
  const snapshot = isSnapshotName(name) ? await findSnapshot(system, files, name) : undefined
  if (!snapshot) return failed('not-found', `no snapshot ${name} in ${snapshotsIn(files)}`)
  if (!(await files.isPrivate(folder))) {
    return failed(
      'precondition',
      `${folder} holds the keys of the cluster and is not root's alone: \`chown -R root: ${folder}; chmod -R go= ${folder}\``,
    )
  }
  const text = (await files.read(`${folder}/${LABEL}`))?.toString('utf8')
  const label = text === undefined ? undefined : readLabel(text)
  if (text !== undefined && !label)
    return failed('unreadable', `${folder}/${LABEL}: says nothing that this agent knows`)
  const own = await files.read(`${folder}/pki/ca.crt`)
  const authority = own && authorityIdIn(own)
  return done({ ...snapshot, folder, label, files: await files.sizes(folder), authority })
}
