import { isServerRole } from '../../drivers/cluster-facts.ts'
import type { DriverState } from '../../drivers/driver.ts'
import { memberOf } from '../../drivers/kubernetes/check-joiner.ts'
import { DONE } from '../../drivers/result.ts'
import { type ActContext, type ActEnd, failedAct, findNamed, fromDriver, whyNotOurs } from './act.ts'
import { obeyOperator } from './obey-operator.ts'

/** Takes away what is left of a machine that was installed anew under its name: never of one that lives. */
export async function clearNode(context: ActContext<'clearNode'>): Promise<ActEnd> {
  const { driver, options, order, action } = context
  const { node, machine } = action.value
  const found = await findNamed(context, order.cluster)
  if (found.kind === 'failed') return found
  const listed = found.named.members.find(({ host }) => host === node)
  if (listed?.machine !== undefined && listed.machine !== machine)
    return failedAct(
      'manifest',
      `${node} is machine ${listed.machine} by the signed manifest, not ${machine}`,
    )
  const members = await driver.cluster.members(options.signal)
  if (members.kind === 'failed') return fromDriver(members)
  const address = driver.facts.servers.get(node)
  const member = memberOf(
    members.value,
    node,
    address === undefined ? [] : [address],
    driver.facts.distribution,
  )
  if (member && !member.learner && member.healthy)
    return failedAct('quorum', `the datastore's member of ${node} votes and answers: it is no leftover`)
  await context.begin()
  const removed = await driver.cluster.removeNode(node, options)
  return removed.kind === 'failed' ? fromDriver(removed) : { kind: 'done' }
}

/**
 * Leaves the cluster. Of itself: a server takes its own Node and member out, then, as a worker, its data away. Of a machine
 * that is gone: a server takes it out. An operator has to have signed it.
 */
export async function leaveCluster(context: ActContext<'leave'>): Promise<ActEnd> {
  const { driver, options, order, deps, action } = context
  const { node, dead, signedOrder } = action.value
  if (node !== driver.nodeName) {
    if (!isServerRole(driver.facts.role))
      return failedAct(
        'precondition',
        `this machine is ${driver.nodeName} and no server: it cannot take ${node} out`,
      )
    const found = await findNamed(context, order.cluster)
    if (found.kind === 'failed') return found
    const machine = found.named.members.find(({ host }) => host === node)?.machine
    const refused = await obeyOperator(context, signedOrder, {
      act: 'leave',
      node,
      machine,
      dead,
      parameter: '',
    })
    if (refused.kind === 'failed') return refused
    await context.begin()
    const removed = await driver.cluster.removeNode(node, options)
    return removed.kind === 'failed' ? fromDriver(removed) : { kind: 'done' }
  }
  if (dead) return failedAct('precondition', `node ${node} is this very machine, which is not gone`)
  const state = await driver.readState(options.signal)
  const begun = context.operation().stage === 'begun'
  if (begun && isWiped(state)) return { kind: 'done' }
  if (!begun) {
    const own = { act: 'leave', node, machine: deps.identity.id, dead: false, parameter: '' } as const
    const refused = await obeyOperator(context, signedOrder, own)
    if (refused.kind === 'failed') return refused
    const notOurs = whyNotOurs(state)
    if (notOurs) return notOurs
    await context.begin()
  }
  // Where the data is gone already, it had left before.
  const left = state.data.kind === 'none' ? DONE : await driver.leave(order.operationId, options)
  if (left.kind === 'failed') return fromDriver(left)
  const wiped = await driver.wipe(options.signal)
  return wiped.kind === 'failed' ? fromDriver(wiped) : { kind: 'done' }
}

/** Nothing of a cluster is left, not even what held it down while it was taken away. */
const isWiped = ({ data, unfinished, held }: DriverState): boolean =>
  data.kind === 'none' && unfinished === undefined && !held

/**
 * Takes the cluster's data off this machine, whatever its datastore says of it: after a restore elsewhere it is of no more
 * account. Whether it is one that the cluster counts on, the coordinator judges by a server's view, and an operator signed it.
 */
export async function wipeNode(context: ActContext<'wipe'>): Promise<ActEnd> {
  const { driver, options, deps, action } = context
  const state = await driver.readState(options.signal)
  const begun = context.operation().stage === 'begun'
  if (begun && isWiped(state)) return { kind: 'done' }
  if (!begun) {
    const own = {
      act: 'wipe',
      node: driver.nodeName,
      machine: deps.identity.id,
      dead: false,
      parameter: '',
    } as const
    const refused = await obeyOperator(context, action.value.signedOrder, own)
    if (refused.kind === 'failed') return refused
    if (state.unfinished === undefined) {
      if (state.data.kind === 'none') return { kind: 'done' }
      const notOurs = whyNotOurs(state)
      if (notOurs) return notOurs
    }
    await context.begin()
  }
  const wiped = await driver.wipe(options.signal)
  return wiped.kind === 'failed' ? fromDriver(wiped) : { kind: 'done' }
}
