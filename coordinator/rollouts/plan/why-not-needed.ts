import { hasCordoned, newestGrants } from './host-steps.ts'
import { memberOf } from './judge-grant.ts'
import type { HostRecord, RolloutRecord, StepKind } from './rollout-record.ts'
import type { MemberView, RolloutSnapshot } from './rollout-snapshot.ts'

/** Why a step has nothing to do on this host; undefined: it has. What is not known may be anything. */
export function whyNotNeeded(
  snapshot: RolloutSnapshot,
  rollout: RolloutRecord,
  host: HostRecord,
  step: StepKind,
): string | undefined {
  const outside = host.cluster === undefined || memberOf(snapshot, host)?.joined === false
  switch (step) {
    case 'prefetch':
      // Without anything to drain the act itself fetches and builds before it touches anything.
      return !outside || rollout.settings.prefetch ? undefined : 'nothing is drained for it'
    case 'snapshot':
      return outside ? 'no datastore runs there' : undefined
    case 'drain': {
      if (outside) return 'it runs no pods'
      if (memberOf(snapshot, host)?.nodeless) return 'it has no node, and so no pods'
      if (rollout.action !== 'apply') return undefined
      const plan = snapshot.operations.get(newestGrants(host).get('prefetch')?.operation ?? '')?.plan
      return plan === undefined || plan.reboots || plan.touchesKubernetes
        ? undefined
        : 'nothing of Kubernetes is restarted'
    }
    case 'prove':
      return outside && newestGrants(host).get('drain')?.end?.outcome !== 'done'
        ? 'it runs no Kubernetes'
        : undefined
    case 'uncordon':
      return hasCordoned(newestGrants(host)) ? whyNotLifted(memberOf(snapshot, host)) : 'we did not cordon it'
    case 'act': {
      if (rollout.action === 'restart') return outside ? 'it runs no Kubernetes' : undefined
      const isGiven = rollout.action === 'drain' || rollout.action === 'uncordon'
      return isGiven && memberOf(snapshot, host)?.joined === false ? 'it runs no pods' : undefined
    }
    case 'soak':
      return undefined
  }
}

/** Whose cordon it is was written down as its node said it when it was drained, or when an operator cordoned it meanwhile. */
function whyNotLifted(member: MemberView | undefined): string | undefined {
  if (!member) return undefined
  const { cordonedBy, cordonStays } = member
  if (cordonedBy === undefined) return 'no cordon of ours is on its node'
  return cordonStays ? `its node stays cordoned: an operator asked for that (act ${cordonedBy})` : undefined
}

/**
 * Why a step whose turn has come has nothing to do any more. Whatever a machine was to boot for, once it has booted since: nobody is drained and
 * booted twice for several reasons.
 */
export function whyNotAnyMore(
  { hosts }: RolloutSnapshot,
  { action }: RolloutRecord,
  { host, machine, boots }: HostRecord,
  step: StepKind,
): string | undefined {
  const view = hosts.get(host)
  if (action !== 'reboot' || (step !== 'drain' && step !== 'act')) return undefined
  if (boots === undefined || view?.boots === undefined || view.machine !== machine) return undefined
  return view.boots > boots ? 'it has booted since the rollout began' : undefined
}
