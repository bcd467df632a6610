import { operationId } from '../../../shared/ids.ts'

const DRAIN_ID = /^[0-9a-z]{9,12}-[0-9a-f]{12}\.([0-9a-z]{9,12}-[0-9a-f]{12})$/

/**
 * The id of a drain by which a rollout goes on its way to something else, with the rollout's own id in it; at most 64 characters. It is the
 * mark of the cordon on the node, which so says itself that a rollout may lift it: also to a coordinator whose store was set back.
 */
export function drainId(now: Date, rollout: string): string {
  return `${operationId(now)}.${rollout}`
}

/** The rollout of such a drain; undefined: an operator asked for what has this id, or nobody can say. */
export function rolloutOfDrain(id: string): string | undefined {
  return DRAIN_ID.exec(id)?.[1]
}
