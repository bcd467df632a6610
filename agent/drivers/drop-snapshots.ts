import { isForChange, KEPT_FOR_CHANGES, PARTIAL } from '../../shared/kubernetes/snapshot-name.ts'
import type { Snapshot } from './driver.ts'
import type { Distributed } from './driver-base.ts'
import { snapshotsIn } from './snapshot-folder.ts'

/** No copy is made for so long: what was begun before that was never ended, and holds keys of the cluster all the same. */
const PARTIAL_MS = 60 * 60_000

/**
 * Takes away what was copied on the way to changes that are long over, so that no disk fills with copies that nobody asked for, each
 * with all keys of the cluster. An operator's are never touched. Whatever does not go is tried again with the next.
 */
export async function dropOlder(
  { deps }: Distributed,
  made: string,
  snapshots: readonly Snapshot[],
): Promise<void> {
  const { system, files, clock } = deps
  const folder = snapshotsIn(files)
  const remove = async (whole: string, partial = `${whole}${PARTIAL}`) => {
    try {
      // A copy without all that is beside it would be taken for one.
      if (whole !== partial) await files.move(`${folder}/${whole}`, `${folder}/${partial}`)
      await files.remove(`${folder}/${partial}`)
    } catch {
      // The copy that was asked for is there, and a change waits for it.
    }
  }
  for (const name of tooMany(snapshots, made)) await remove(name)
  for (const name of await files.list(folder)) {
    if (!name.endsWith(PARTIAL) || !isForChange(name.slice(0, -PARTIAL.length))) continue
    const seen = await system.stat(`${folder}/${name}`)
    if (seen.kind === 'stat' && clock.now().getTime() - seen.modifiedMs > PARTIAL_MS) await remove(name, name)
  }
}

/** Which of them are taken away: of those that were made on the way to a change the oldest; never the one that was made just now. */
export function tooMany(snapshots: readonly Snapshot[], made: string): readonly string[] {
  return snapshots
    .filter(({ name }) => isForChange(name) && name !== made)
    .toSorted((a, b) => b.madeMs - a.madeMs)
    .slice(KEPT_FOR_CHANGES - 1)
    .map(({ name }) => name)
}
