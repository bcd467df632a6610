import { reasonOf } from '../../shared/errors.ts'
import type { Joined, Restoring, Snapshot } from './driver.ts'
import { begin, type Distributed, finish, ownAuthority, stopKubernetes, whatBecameOf } from './driver-base.ts'
import { judgeSnapshot, type SnapshotSeen } from './judge-snapshot.ts'
import type { WaitOptions } from './kubernetes/wait-options.ts'
import { readDiskData } from './node/disk-data.ts'
import { startUnits } from './node/services.ts'
import { failed, type Result } from './result.ts'
import { openSnapshot } from './snapshots.ts'

export type OpenSnapshot = Snapshot & SnapshotSeen

/** What a distribution does itself. */
export interface RestoreSteps {
  /** Files of a snapshot without which a machine that has nothing of the cluster cannot be its server. */
  readonly needed: readonly string[]
  /** Puts datastore and secrets in their places, of units that are stopped; done anew when it was cut off. */
  readonly place: (snapshot: OpenSnapshot, fresh: boolean) => Promise<Result<void>>
  /** Puts back what `place` moved away for this operation, of units that are stopped; nothing where it moved nothing. */
  readonly undo: (operation: string) => Promise<void>
  /** Starts the units, and waits until the server is there. */
  readonly start: (fresh: boolean) => Promise<Result<void>>
}

/**
 * Makes this server the only one, from a snapshot. On a machine without data it is as a founding is: begun under the operation's
 * name, so that whatever it leaves when it fails is known for unfinished, and over when the mark says so. What was put in its
 * place once is not put there again by a start of the agent, which would undo what was done in Kubernetes since. A server that has
 * data is not left stopped by what fails before: it is started again with what it had, and told so, or why not.
 */
export async function restoreCluster(
  of: Distributed,
  { operation, name, authority }: Restoring,
  options: WaitOptions,
  { needed, place, undo, start }: RestoreSteps,
): Promise<Result<Joined>> {
  const { system, files, facts, nodeName } = of.deps
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
    const stopAndPlace = async () => {
      const stopped = await stopKubernetes(of, options.signal)
      return stopped.kind === 'failed' ? stopped : await place(snapshot, fresh)
    }
    const placed = fresh
      ? await stopAndPlace()
      : await orStartAgain(of, async () => await undo(operation), options.signal, stopAndPlace)
    if (placed.kind === 'failed') return placed
    // Whatever it was kept from before: from here on it is the only server.
    await files.unmark('stood-down')
    await files.mark('restored', operation)
  }
  const started = await start(fresh)
  if (started.kind === 'done') return await finish(of, operation)
  const { class: kind, reason } = started
  return failed(
    kind,
    `${reason}; the datastore of snapshot ${name} is in place, and Kubernetes goes on trying with it: start no other server before \`muster cluster restore ${facts.cluster} ${name} --on ${nodeName}\` was given again and is done`,
  )
}

/** Whatever keeps a snapshot from its place, the server is not left stopped: it goes on with what it had. */
async function orStartAgain(
  of: Distributed,
  undo: () => Promise<void>,
  signal: AbortSignal | undefined,
  stopAndPlace: () => Promise<Result<void>>,
): Promise<Result<void>> {
  let end: Result<void>
  try {
    end = await stopAndPlace()
  } catch (error) {
    // The agent tries again some times, and then gives up.
    if (!signal?.aborted) await startAgain(of, undo)
    throw error
  }
  // An agent that ends goes on with it at its next start.
  if (end.kind === 'done' || signal?.aborted) return end
  return failed(end.class, `${end.reason}; ${await startAgain(of, undo)}`)
}

/** Says what became of it. */
async function startAgain({ deps }: Distributed, undo: () => Promise<void>): Promise<string> {
  const { system, files, facts, nodeName } = deps
  try {
    await undo()
  } catch (error) {
    return `this server is stopped, for what it had cannot be put back (${reasonOf(error)}): mend that, and order the restore again`
  }
  if ((await files.readMark('stood-down')) !== undefined)
    return 'this server has what it had, and stays stopped as it was before'
  const started = await startUnits(system, facts.units)
  return started.kind === 'done'
    ? 'this server was started again with what it had'
    : `this server has what it had, and cannot be started again (${started.reason}): \`muster restart ${nodeName}\``
}
