import type { Decision } from './decision.ts'
import { LEAVES_BEHIND } from './gates.ts'
import type { RolloutRecord } from './rollout-record.ts'

/**
 * Of rollouts that were only thought through, those in which no host would be left behind at once. One that waits for somebody would end
 * as soon as it began, and the next would begin, again and again.
 */
export function worthBeginning(
  candidates: readonly Pick<RolloutRecord, 'id' | 'hosts'>[],
  { waits }: Pick<Decision, 'waits'>,
): ReadonlySet<string> {
  const worth = candidates.filter(({ id, hosts }) =>
    hosts.every(({ host }) =>
      (waits.get(id)?.get(host) ?? []).every(({ gate }) => !LEAVES_BEHIND.includes(gate)),
    ),
  )
  return new Set(worth.map(({ id }) => id))
}
