import { pause } from '../../../shared/lifecycle.ts'
import { type JsonObject, textAt } from '../../../shared/read-value.ts'
import { DONE, failed, type Result } from '../result.ts'
import { isNotFound, type Kubectl } from './kubectl.ts'
import type { WaitOptions } from './wait-options.ts'

/** What the controllers say of their leader in the lease that they elect it by. */
export interface Leadership {
  /** Empty: it was given up, and nobody has taken it yet. */
  readonly holder: string
  /** By the holder's clock, and therefore only ever compared with itself. */
  readonly renewed: string
}

export function readLeadership(lease: JsonObject): Leadership {
  return {
    holder: textAt(lease, 'spec', 'holderIdentity') ?? '',
    renewed: textAt(lease, 'spec', 'renewTime') ?? '',
  }
}

/**
 * Whether controllers are at work. A lease outlives its holder by fifteen seconds, so that one stands there counts for nothing: it
 * must have been renewed, or taken by somebody else, since `first` was read.
 */
export function doLead(first: Leadership | undefined, seen: Leadership): boolean {
  if (first === undefined || seen.holder === '') return false
  return seen.holder !== first.holder || seen.renewed !== first.renewed
}

const LEASE = '/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager'
/** A leader renews every two seconds where nobody says otherwise. */
const LOOK_EVERY_MS = 200

/**
 * Waits until a controller manager leads. While none does, as for a quarter of a minute after the server that led was restarted, services go on
 * sending to pods that have left, and none takes their place. Where there is no lease, nobody is elected: one alone is always the leader.
 */
export async function untilControllersLead(kubectl: Kubectl, options: WaitOptions): Promise<Result<void>> {
  const until = performance.now() + options.deadlineMs
  let first: Leadership | undefined
  let why = 'its lease was not renewed'
  while (!options.signal?.aborted) {
    const lease = await kubectl.get(LEASE, options.signal)
    if (isNotFound(lease)) return DONE
    if (lease.kind === 'done') {
      const seen = readLeadership(lease.value)
      if (doLead(first, seen)) return DONE
      first ??= seen
      why =
        seen.holder === '' ? 'nobody holds its lease' : `${seen.holder} holds its lease and does not renew it`
    } else why = lease.reason
    if (performance.now() >= until) {
      const lost = 'services would go on sending to pods that have left'
      return failed(
        'not-ready',
        `no kube-controller-manager leads within ${Math.max(0, Math.round(options.deadlineMs / 1000))} s, and ${lost}: ${why}`,
      )
    }
    await pause(Math.min(options.everyMs ?? LOOK_EVERY_MS, LOOK_EVERY_MS), options.signal)
  }
  return failed('cancelled', 'no longer waited for controllers')
}
