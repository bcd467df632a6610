import { readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { makePrivateDirectory, readFileIfThere, syncDirectory } from '../../shared/durable-file.ts'
import { hasCode } from '../../shared/errors.ts'
import { BEFORE_RESTORE, ITEMS, OUTGOING, READY_MARKER, STORE_COMPANIONS, stateLayout } from './layout.ts'
import { type ReadyRestore, readySchema } from './stage-restore.ts'

/** A restore that was swapped in, and where the state before it stands. */
export interface AppliedRestore extends ReadyRestore {
  readonly before: string
}

/**
 * Swaps in a restore that was received and checked. Runs before anything of the state is opened.
 * INVARIANTS: an item that still stands in the incoming folder was not swapped, so what stands in its place is the old
 * one; the old store leaves together with its companions before the new one arrives; the marker goes last. So it may be
 * killed between any two lines, and the next start goes on where it stopped.
 */
export async function applyStagedRestore(stateDir: string): Promise<AppliedRestore | undefined> {
  let applied: AppliedRestore | undefined
  for await (const step of restoreSteps(stateDir)) applied = step ?? applied
  return applied
}

/** One change on disk between two steps; a test stops after each of them. */
export async function* restoreSteps(stateDir: string): AsyncGenerator<AppliedRestore | undefined> {
  for (const name of await namesIn(stateDir)) {
    if (name.startsWith(OUTGOING)) await rm(join(stateDir, name), { recursive: true, force: true })
  }
  const { incoming } = stateLayout(stateDir)
  const marker = await readFileIfThere(join(incoming, READY_MARKER))
  if (!marker) {
    // Received in part, or nothing at all.
    await rm(incoming, { recursive: true, force: true })
    return
  }
  const ready = readySchema.parse(JSON.parse(marker.toString()))
  const beforeName = BEFORE_RESTORE + ready.received.replaceAll(':', '-')
  const before = join(stateDir, beforeName)
  await makePrivateDirectory(before)
  await syncDirectory(stateDir)
  yield
  const waiting = await namesIn(incoming)
  for (const item of ITEMS) {
    if (!waiting.includes(item)) continue
    for (const name of item === 'store.sqlite' ? [item, ...STORE_COMPANIONS] : [item]) {
      await moveIfThere(join(stateDir, name), join(before, name))
      yield
    }
    await syncDirectory(before)
    await syncDirectory(stateDir)
    await rename(join(incoming, item), join(stateDir, item))
    await syncDirectory(incoming)
    await syncDirectory(stateDir)
    yield
  }
  yield { ...ready, before }
  // Only the state before the newest restore is kept.
  for (const name of await namesIn(stateDir)) {
    if (!name.startsWith(BEFORE_RESTORE) || name === beforeName) continue
    await rm(join(stateDir, name), { recursive: true, force: true })
    yield
  }
  await rm(incoming, { recursive: true, force: true })
  await syncDirectory(stateDir)
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return (await readdir(folder)).toSorted()
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return []
    throw error
  }
}

async function moveIfThere(from: string, to: string): Promise<void> {
  try {
    await rename(from, to)
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error
  }
}
