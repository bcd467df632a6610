import { KEEP_SNAPSHOTS } from '../../../shared/operator-order/operator-order.ts'
import { isServerRole } from '../../drivers/cluster-facts.ts'
import type { DriverState, Snapshot } from '../../drivers/driver.ts'
import { DONE } from '../../drivers/result.ts'
import {
  type ActBase,
  type ActContext,
  type ActEnd,
  doneWith,
  failedAct,
  findNamed,
  fromDriver,
  whyNotOurs,
  whyNotServing,
} from './act.ts'
import { obeyOperator } from './obey-operator.ts'
import { whyAlive } from './watch-node.ts'

/**
 * Takes away what is left of a machine that was installed anew under its name. No operator has signed it: so it is watched first, and never
 * done to one that lives.
 */
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
  const alive = await whyAlive(context, node)
  if (alive) return alive
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
  if (begun && isWiped(state)) return await goneWithCopies(context)
  if (!begun) {
    const own = { act: 'leave', node, machine: deps.identity.id, dead: false, parameter: '' } as const
    const refused = await obeyOperator(context, signedOrder, own)
    if (refused.kind === 'failed') return refused
    const notOurs = whyNotServing(state)
    if (notOurs) return notOurs
    await context.begin()
  }
  // Where the data is gone already, it had left before.
  const left = state.data.kind === 'none' ? DONE : await driver.leave(order.operationId, options)
  if (left.kind === 'failed') return fromDriver(left)
  const wiped = await driver.wipe(options.signal)
  return wiped.kind === 'failed' ? fromDriver(wiped) : await goneWithCopies(context)
}

/**
 * Copies of the datastore outlive a leave: one of them may be the only one that the cluster has. Whoever has the machine next has
 * the cluster's keys with them, so they are named.
 */
async function goneWithCopies({ driver }: ActBase): Promise<ActEnd> {
  const listed = await driver.cluster.listSnapshots()
  if (listed.kind === 'done' && listed.value.length === 0) return { kind: 'done' }
  const which =
    listed.kind === 'done' ? describeCopies(listed.value) : `copies that cannot be listed (${listed.reason})`
  return doneWith(
    `${which} stay on ${driver.nodeName}, with keys of the cluster: carry away what is needed, then \`muster remove ${driver.nodeName} --wipe\` takes them away`,
  )
}

const NAMED = 5

function describeCopies(copies: readonly Snapshot[]): string {
  const names = copies.toReversed().map(({ name }) => name)
  const more = names.length > NAMED ? ` and ${names.length - NAMED} more` : ''
  return `copies of the datastore (${names.slice(0, NAMED).join(', ')}${more})`
}

/** Nothing of a cluster is left, not even what held it down while it was taken away. */
const isWiped = ({ data, lost, unfinished, held }: DriverState): boolean =>
  data.kind === 'none' && lost === undefined && unfinished === undefined && !held

/**
 * Takes the cluster's data off this machine, whatever its datastore says of it: after a restore elsewhere it is of no more
 * account. Copies of the datastore go with it, also where all else went before, for they hold the keys of the cluster; unless an operator
 * signed that they stay. Whether it is one that the cluster counts on, the coordinator judges by a server's view.
 */
export async function wipeNode(context: ActContext<'wipe'>): Promise<ActEnd> {
  const { driver, options, deps, action } = context
  const { keepSnapshots } = action.value
  const end = async () => (keepSnapshots ? await goneWithCopies(context) : await dropCopies(context))
  const state = await driver.readState(options.signal)
  const begun = context.operation().stage === 'begun'
  if (begun && isWiped(state)) return await end()
  if (!begun) {
    const own = {
      act: 'wipe',
      node: driver.nodeName,
      machine: deps.identity.id,
      dead: false,
      parameter: keepSnapshots ? KEEP_SNAPSHOTS : '',
    } as const
    const refused = await obeyOperator(context, action.value.signedOrder, own)
    if (refused.kind === 'failed') return refused
    if (state.unfinished === undefined) {
      if (state.data.kind === 'none' && !state.lost) {
        await context.begin()
        return await end()
      }
      const notOurs = state.data.kind === 'none' ? undefined : whyNotOurs(state)
      if (notOurs) return notOurs
    }
    await context.begin()
  }
  const wiped = await driver.wipe(options.signal)
  return wiped.kind === 'failed' ? fromDriver(wiped) : await end()
}

async function dropCopies({ driver }: ActContext<'wipe'>): Promise<ActEnd> {
  const dropped = await driver.dropSnapshots()
  return dropped.kind === 'failed' ? fromDriver(dropped) : { kind: 'done' }
}
