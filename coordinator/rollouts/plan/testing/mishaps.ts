import type { Box, Fleet } from './simulated-fleet.ts'

/*
 * What happens to machines beside rollouts, for a tenth of an hour each: a pure function of host and time, so that it changes nothing of
 * what else happens in a world.
 */

const SLOT_MS = 360_000
const EACH = 19

function slotOf({ nowMs }: Pick<Fleet, 'nowMs'>): number {
  return Math.floor(nowMs / SLOT_MS)
}

function isTurnOf(fleet: Fleet, { host }: Box, kind: number): boolean {
  if (!fleet.mishaps || !fleet.faulty) return false
  const number = [...host].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 9_973, 7)
  return (number + slotOf(fleet) * 5) % EACH === kind
}

/** Nothing is granted: the store is known to be older than what nodes report. */
export function isHalted(fleet: Fleet): boolean {
  return fleet.mishaps && fleet.faulty && slotOf(fleet) % 7 === 3
}

/** It obeys nothing but resume, retry and plan. */
export function isHeld(fleet: Fleet, box: Box): boolean {
  return isTurnOf(fleet, box, 0)
}

/** Somebody else's operation is under way on it. */
export function isBusy(fleet: Fleet, box: Box): boolean {
  return isTurnOf(fleet, box, 1)
}

/** Its cluster would begin nothing that is asked of it about this node, for longer than it is asked. */
export function isUnwilling(fleet: Fleet, box: Box): boolean {
  // One turn after the other: each follows the one before it by five.
  return box.cluster !== undefined && [3, 8, 13].some(kind => isTurnOf(fleet, box, kind))
}

/** No revision has a target for it. */
export function isTargetless(fleet: Fleet, box: Box): boolean {
  return isTurnOf(fleet, box, 2)
}
