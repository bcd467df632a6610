import { type ClusterRecord, type Distribution, isServer, type Join } from './cluster-record.ts'
import type { Reason } from './reasons.ts'

/**
 * Distributions in which a server's token can be deleted. In the others a server joins with what is good for ever, so
 * only the joiner itself can say that nothing more will come of it.
 */
const SERVER_TOKEN_ENDS: Readonly<Record<Distribution, boolean>> = {
  k0s: true,
  k3s: false,
  kubernetes: false,
  components: false,
}

/** By what is written down, nobody can join with the secret of this join any more. */
export function isSpent(join: Join, distribution: Distribution): boolean {
  if (join.end === undefined) return false
  if (join.joinerDone || join.state === 'asked') return true
  return join.tokenGone && (!isServer(join.role) || SERVER_TOKEN_ENDS[distribution])
}

/**
 * What changes the servers now; undefined: nothing. One change at a time, and the members are read anew after each. A joiner
 * that was sent away is in the way until its join is forgotten, which is when they are read anew.
 */
export function serverChangeOf(record: ClusterRecord, distribution: Distribution): Reason | undefined {
  const busy = (host: string, operation: string): Reason => ({ gate: 'server-change', host, operation })
  const { founding } = record
  if (founding?.state === 'ordered') return busy(founding.host, founding.operation)
  for (const join of record.joins) {
    if (isServer(join.role) && !isSpent(join, distribution)) {
      return busy(join.host, join.operation)
    }
  }
  for (const clear of record.clears) return busy(clear.host, clear.operation)
  for (const { server, attempt, host } of record.leaves) {
    if (server && attempt) return busy(host, attempt.operation)
  }
  return undefined
}
