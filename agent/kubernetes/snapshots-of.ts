import { nameForChange } from '../../shared/kubernetes/snapshot-name.ts'
import type { ClusterDriver } from '../drivers/driver.ts'
import type { Result } from '../drivers/result.ts'

const SNAPSHOT_MS = 10 * 60_000

/** The one snapshot that an operation makes before a server moves on; asked for again it is the same. */
export async function snapshotBefore(
  driver: ClusterDriver,
  operation: string,
  signal: AbortSignal,
): Promise<Result<string>> {
  const name = nameForChange('before', operation)
  const made = await driver.cluster.snapshot(name, { deadlineMs: SNAPSHOT_MS, signal })
  return made.kind === 'done' ? { kind: 'done', value: made.value.name } : made
}

/** Told to whoever must mend a server; undefined: there is none, or nobody can tell. */
export async function newestSnapshot(driver: ClusterDriver): Promise<string | undefined> {
  const listed = await driver.cluster.listSnapshots()
  if (listed.kind === 'failed') return undefined
  return listed.value.toSorted((a, b) => b.madeMs - a.madeMs)[0]?.name
}
