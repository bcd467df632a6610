import { pause } from '../../../shared/lifecycle.ts'
import { memberOf } from '../../drivers/kubernetes/check-joiner.ts'
import { isNotFound } from '../../drivers/kubernetes/kubectl.ts'
import type { NodeEvidence } from '../../drivers/kubernetes/read-evidence.ts'
import { LOOK_EVERY_MS } from '../../drivers/kubernetes/wait-options.ts'
import { type ActBase, type ActFailure, failedAct, fromDriver } from './act.ts'

/** A kubelet renews its lease every ten seconds, or four times while it lasts: who lives is seen to do so in twice that time. */
const WATCH_MS = 20_000

/**
 * Watches what goes by a node's name, and says why it may not be cleared away: its lease is renewed, or its member of the datastore votes
 * and answers. A kubelet that says itself that its node is not Ready is no obstacle: such is what a join that broke off leaves running, and without
 * a clear its machine would never join. undefined: nobody lives there.
 */
export async function whyAlive(
  { driver, options }: Pick<ActBase, 'driver' | 'options'>,
  node: string,
): Promise<ActFailure | undefined> {
  const { signal } = options
  const address = driver.facts.servers.get(node)
  let first: NodeEvidence | undefined
  let looks = WATCH_MS / LOOK_EVERY_MS
  for (let look = 0; look <= looks; look += 1) {
    if (look > 0 && !(await pause(options.everyMs ?? LOOK_EVERY_MS, signal)))
      return failedAct('cancelled', `${node} is no longer watched`)
    const members = await driver.cluster.members(signal)
    if (members.kind === 'failed') return fromDriver(members)
    const addresses = address === undefined ? [] : [address]
    const member = memberOf(members.value, node, addresses, driver.facts.distribution)
    if (member && !member.learner && member.healthy)
      return failedAct('quorum', `the datastore's member of ${node} votes and answers: it is no leftover`)
    const seen = await driver.cluster.readEvidence(node, signal)
    if (seen.kind === 'failed' && !isNotFound(seen)) return fromDriver(seen)
    // Only something beside a Node is left, or nothing.
    if (seen.kind === 'failed' && !member) return undefined
    if (seen.kind === 'failed') continue
    const { value } = seen
    if (first && first.renewedMs !== value.renewedMs && value.node.ready?.status !== 'False')
      return failedAct('alive', `node ${node} renews its lease: it is no leftover`)
    first = value
    looks = Math.max(looks, Math.ceil((value.leaseMs ?? 0) / 2 / LOOK_EVERY_MS))
  }
  return undefined
}
