import type { HostRecord, RolloutRecord } from './rollout-record.ts'
import type { PlanView, RolloutSnapshot } from './rollout-snapshot.ts'

/**
 * Why a maintenance window that an operator opened for a host does not count any more: what is planned there by now is more than what was
 * planned when it was opened, so it has to be opened anew. Undefined: it counts. Opened before anything was planned it is for the first plan;
 * where nothing is planned beforehand it is for the action itself.
 */
export function whyOutgrown(
  { operations }: Pick<RolloutSnapshot, 'operations'>,
  { overriddenMs }: Pick<RolloutRecord, 'overriddenMs'>,
  { host, grants }: Pick<HostRecord, 'host' | 'grants'>,
): string | undefined {
  const openedMs = overriddenMs?.get(`${host} window`)
  if (openedMs === undefined) return undefined
  const planned = grants.filter(({ step, end }) => step === 'prefetch' && end?.outcome === 'done')
  const newest = planned.at(-1)
  const seen = planned.findLast(({ end }) => end !== undefined && end.atMs <= openedMs) ?? planned[0]
  if (newest === undefined || seen === newest) return undefined
  const now = operations.get(newest.operation)?.plan
  const then = seen && operations.get(seen.operation)?.plan
  return now && then ? whatIsMore(then, now) : 'nobody can say whether more is planned by now'
}

/** What a plan does that another did not. */
function whatIsMore(then: PlanView, now: PlanView): string | undefined {
  if (now.reboots && !then.reboots) return 'by now a reboot is needed'
  if (now.touchesKubernetes && !then.touchesKubernetes) return 'by now Kubernetes is restarted'
  const known = new Set(then.units)
  const more = (now.units ?? []).filter(unit => !known.has(unit))
  const [first] = more
  if (first !== undefined) {
    return `by now ${more.length} more unit${more.length === 1 ? ' is' : 's are'} touched, such as ${first}`
  }
  return (now.leftOut ?? 0) > (then.leftOut ?? 0) ? 'by now more units are touched' : undefined
}
