import type { Joined, Restoring, Snapshot } from './driver.ts'
import { begin, type Distributed, finish, ownAuthority, stopKubernetes, whatBecameOf } from './driver-base.ts'
import { judgeSnapshot, type SnapshotSeen } from './judge-snapshot.ts'
import type { WaitOptions } from './kubernetes/wait-options.ts'
import { readDiskData } from './node/disk-data.ts'
import { failed, type Result } from './result.ts'
import { openSnapshot } from './snapshots.ts'

export type OpenSnapshot = Snapshot & SnapshotSeen

/** What a distribution does itself. */
export interface RestoreSteps {
  /** Files of a snapshot without which a machine that has nothing of the cluster cannot be its server. */
  readonly needed: readonly string[]
  /** Puts datastore and secrets in their places, of units that are stopped; done anew when it was cut off. */
  readonly place: (snapshot: OpenSnapshot, fresh: boolean) => Promise<Result<void>>
  /** Starts the units, and waits until the server is there. */
  readonly start: (fresh: boolean) => Promise<Result<void>>
}

/**
 * Makes this server the only one, from a snapshot. On a machine without data it is as a founding is: begun under the operation's
 * name, so that whatever it leaves when it fails is known for unfinished, and over when the mark says so. What was put in its
 * place once is not put there again by a start of the agent, which would undo what was done in Kubernetes since.
 */
export async function restoreCluster(
  of: Distributed,
  { operation, name, authority }: Restoring,
  options: WaitOptions,
  { needed, place, start }: RestoreSteps,
): Promise<Result<Joined>> {
  const { system, files, facts } = of.deps
  const over = await whatBecameOf(of, operation)
  if (over) return over
  const begun = await files.readMark('begun')
  // What another one left half-made is no server's.
  if (begun !== undefined && begun !== operation)
    return failed('data-present', `operation ${begun} is unfinished on this machine: wipe that first`)
  const fresh = begun === operation || (await readDiskData(system)).kind === 'none'
  if ((await files.readMark('restored')) !== operation) {
    const opened = await openSnapshot(of, name)
    if (opened.kind === 'failed') return opened
    const snapshot = opened.value
    const refused = judgeSnapshot(snapshot, {
      facts,
      needed: fresh ? needed : [],
      authority: authority ?? (fresh ? undefined : await ownAuthority(of)),
      installed: await of.installedVersion(options.signal),
    })
    if (refused) return refused
    const taken = fresh ? await begin(of, operation, 'lost-datastore') : undefined
    if (taken) return taken
    const stopped = await stopKubernetes(of, options.signal)
    if (stopped.kind === 'failed') return stopped
    const placed = await place(snapshot, fresh)
    if (placed.kind === 'failed') return placed
    // Whatever it was kept from before: from here on it is the only server.
    await files.unmark('stood-down')
    await files.mark('restored', operation)
  }
  const started = await start(fresh)
  return started.kind === 'failed' ? started : await finish(of, operation)
}
