import { type ArmFolder, slotPath } from './operation-folder.ts'
import { readSlot, writeSlot } from './slot.ts'

/** How the way back ended. */
export type ReturnEnd =
  /** The old system runs, and is what the profile and the boot loader name. */
  | { readonly kind: 'returned'; readonly reason: string }
  /** It waits for the boot into the old system that was asked for. */
  | { readonly kind: 'booting'; readonly bootId: string; readonly reason: string }
  | { readonly kind: 'failed'; readonly reason: string; readonly exitCode: number | undefined }

export async function writeReturnEnd(folder: ArmFolder, end: ReturnEnd): Promise<void> {
  await writeSlot(slotPath(folder, 'return.end'), { ...end, reason: end.reason.slice(0, 1_500) })
}

/** Undefined: it has not ended, or its end cannot be read: then it is walked again, which harms nothing. */
export async function readReturnEnd(folder: ArmFolder): Promise<ReturnEnd | undefined> {
  const reading = await readSlot(slotPath(folder, 'return.end'))
  if (reading.kind !== 'value') return undefined
  const fields = new Map<string, unknown>(Object.entries(reading.value ?? {}))
  const [kind, reason, bootId, exitCode] = ['kind', 'reason', 'bootId', 'exitCode'].map(name =>
    fields.get(name),
  )
  if (typeof reason !== 'string') return undefined
  if (kind === 'returned') return { kind, reason }
  if (kind === 'booting' && typeof bootId === 'string') return { kind, bootId, reason }
  if (kind === 'failed')
    return { kind, reason, exitCode: typeof exitCode === 'number' ? exitCode : undefined }
  return undefined
}
