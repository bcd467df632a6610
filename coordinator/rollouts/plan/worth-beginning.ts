import type { Decision } from './decision.ts'
import { LEAVES_BEHIND } from './gates.ts'
import type { RolloutRecord } from './rollout-record.ts'

/**
 * Of rollouts that were only thought through, by id those hosts that would not be left behind at once. One that waits for somebody would end
 * as soon as it began, and the next would begin, again and again.
 */
export function worthBeginning(
  candidates: readonly Pick<RolloutRecord, 'id' | 'hosts'>[],
  { waits }: Pick<Decision, 'waits'>,
): ReadonlyMap<string, ReadonlySet<string>> {
  return new Map(
    candidates.map(({ id, hosts }) => {
      const held = waits.get(id)
      const worth = hosts.filter(({ host }) =>
        (held?.get(host) ?? []).every(({ gate }) => !LEAVES_BEHIND.includes(gate)),
      )
      return [id, new Set(worth.map(({ host }) => host))] as const
    }),
  )
}
