import { join } from 'node:path'
import { hasCode } from '../../shared/errors.ts'
import { readSlot, reserveSlot, writeSlot } from '../safety/slot.ts'
import { type AgentStateFile, type BootCount, countBoot, laterCount } from './agent-state.ts'

/** Holds one block, in which a boot can be counted on a disk that is full. */
const SLOT = 'boot-count'

/**
 * Counts this boot, once. INVARIANTS: a count that was told to a coordinator never falls and is given to no other boot; a disk that
 * is full keeps no agent from its start: what `state.json` has no room for stands in a slot, whose room was taken before, until
 * `state.json` is written again.
 */
export async function countThisBoot(directory: string, state: AgentStateFile, bootId: string): Promise<void> {
  const slot = join(directory, SLOT)
  await takeRoom(slot)
  const counted = laterCount(state.current, await readCount(slot))
  state.adoptBoot(counted)
  if (counted.bootId === bootId) return
  try {
    await state.update(before => countBoot(before, bootId))
  } catch (error) {
    if (!hasCode(error, 'ENOSPC')) throw error
    const next = countBoot(state.current, bootId)
    // Where there never was room for the slot, the count stands in memory alone: a node that nobody reaches cannot be helped.
    await writeSlot(slot, { bootId: next.bootId, bootCount: next.bootCount }).catch(() => {})
    state.adoptBoot(next)
  }
}

/** Best effort: where there is no room now, the next start may still find some. */
async function takeRoom(slot: string): Promise<void> {
  await reserveSlot(slot).catch((error: unknown) => {
    if (!hasCode(error, 'ENOSPC')) throw error
  })
}

/** Undefined: no boot was counted there, or power was lost in the middle of it. */
async function readCount(slot: string): Promise<BootCount | undefined> {
  const reading = await readSlot(slot)
  if (reading.kind !== 'value') return undefined
  const fields = new Map<string, unknown>(Object.entries(reading.value ?? {}))
  const [bootId, bootCount] = [fields.get('bootId'), fields.get('bootCount')]
  return typeof bootId === 'string' && typeof bootCount === 'number' && Number.isSafeInteger(bootCount)
    ? { bootId, bootCount }
    : undefined
}
