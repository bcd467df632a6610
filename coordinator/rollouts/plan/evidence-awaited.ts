import type { Decision, GateName } from './decision.ts'
import type { RolloutSnapshot } from './rollout-snapshot.ts'

/** Gates that open by what machines of a cluster say next. */
const BY_NEWS: readonly GateName[] = ['health', 'quorum', 'skew', 'unknown']

/**
 * By cluster the machines whose next word lets something go on: what is proved, and what waits for its cluster to be seen well. Nobody
 * else is worth asking out of turn.
 */
export function evidenceAwaited(
  { rollouts }: Pick<RolloutSnapshot, 'rollouts'>,
  { waits }: Pick<Decision, 'waits'>,
): ReadonlyMap<string, ReadonlySet<string>> {
  const awaited = new Map<string, Set<string>>()
  for (const { id, hosts } of rollouts) {
    const held = waits.get(id)
    for (const { host, cluster, machine, grants } of hosts) {
      if (cluster === undefined || machine === undefined) continue
      const isProved = grants.some(({ step, end }) => step === 'prove' && !end)
      const own = held?.get(host) ?? []
      // Behind another gate news is of no use yet.
      const byNews = own.length > 0 && own.every(({ gate }) => BY_NEWS.includes(gate))
      if (!isProved && !byNews) continue
      const machines = awaited.get(cluster)
      if (machines) machines.add(machine)
      else awaited.set(cluster, new Set([machine]))
    }
  }
  return awaited
}
