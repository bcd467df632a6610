import { pause } from '../../shared/lifecycle.ts'
import { type ArmFolder, slotPath } from './operation-folder.ts'
import { readSlot, writeSlot } from './slot.ts'
import type { BootTime } from './uptime.ts'

const READS = 3
const READ_PAUSE_MS = 20

/** Until when a change may stay unsettled: a moment of one boot. In another boot it says nothing. */
export interface Deadline extends BootTime {
  /** "proof": until it is confirmed. "promotion": it is confirmed, and until it is the boot default. */
  readonly of: 'proof' | 'promotion'
  /** By how much it was moved because the coordinator announced its restart, which counts for the boot that is tried, too. */
  readonly extendedMs?: number | undefined
}

export async function writeDeadline(folder: ArmFolder, at: Deadline): Promise<void> {
  await writeSlot(slotPath(folder, 'deadline'), at)
}

const changes = new Map<string, Promise<unknown>>()

/**
 * Reads a deadline and writes what follows from it, with no other change of this process in between; undefined: it stays as
 * it is.
 */
export async function changeDeadline(
  folder: ArmFolder,
  change: (before: Deadline | undefined) => Promise<Deadline | undefined>,
): Promise<void> {
  const key = slotPath(folder, 'deadline')
  const turn = (changes.get(key) ?? Promise.resolve())
    .catch(() => {}) // whoever made that change was told
    .then(async () => {
      const next = await change(await readDeadline(folder))
      if (next) await writeDeadline(folder, next)
    })
  changes.set(key, turn)
  try {
    await turn
  } finally {
    if (changes.get(key) === turn) changes.delete(key)
  }
}

/** Undefined: none is written, or it cannot be read. */
export async function readDeadline(folder: ArmFolder): Promise<Deadline | undefined> {
  const path = slotPath(folder, 'deadline')
  let reading = await readSlot(path)
  // It may have been read while another process wrote it.
  for (let again = 0; reading.kind === 'damaged' && again < READS; again++) {
    await pause(READ_PAUSE_MS)
    reading = await readSlot(path)
  }
  if (reading.kind !== 'value') return undefined
  const fields = new Map<string, unknown>(Object.entries(reading.value ?? {}))
  const [bootId, uptimeMs, of, extendedMs] = ['bootId', 'uptimeMs', 'of', 'extendedMs'].map(name =>
    fields.get(name),
  )
  if (typeof bootId !== 'string' || typeof uptimeMs !== 'number') return undefined
  if (of !== 'proof' && of !== 'promotion') return undefined
  return { bootId, uptimeMs, of, ...(typeof extendedMs === 'number' && { extendedMs }) }
}

/** Milliseconds that are left; undefined: the deadline belongs to another boot. Never negative. */
export function leftUntil(deadline: BootTime, now: BootTime): number | undefined {
  return deadline.bootId === now.bootId ? Math.max(0, deadline.uptimeMs - now.uptimeMs) : undefined
}
