import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { ClusterStepEnded } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { isSnapshotName, SNAPSHOT_NAME_RULE } from '../../../shared/kubernetes/snapshot-name.ts'
import { isServerRole } from '../../drivers/cluster-facts.ts'
import type { Snapshot } from '../../drivers/driver.ts'
import {
  type ActContext,
  type ActEnd,
  type ActFailure,
  doneWith,
  failedAct,
  findAsServer,
  fromDriver,
  whyNotOurs,
} from './act.ts'
import { createHandover } from './handover.ts'
import { makeRoom } from './make-room.ts'
import { obeyOperator } from './obey-operator.ts'

const MAX_SNAPSHOTS = 100

/** Copies the datastore into a folder for root alone. */
export async function takeSnapshot(context: ActContext<'snapshot'>): Promise<ActEnd> {
  const { driver, options, action } = context
  const { name } = action.value
  if (!isSnapshotName(name)) return failedAct('precondition', SNAPSHOT_NAME_RULE)
  if (context.operation().stage === 'accepted') {
    const listed = await driver.cluster.listSnapshots()
    if (listed.kind === 'failed') return fromDriver(listed)
    const there = listed.value.find(each => each.name === name)
    // It would stay as it is, and be taken for the new one.
    if (there) {
      const made = new Date(there.madeMs).toISOString()
      return failedAct('precondition', `there is a snapshot ${name} already, of ${made}: choose another name`)
    }
    await context.begin()
  }
  const made = await driver.cluster.snapshot(name, options)
  return made.kind === 'failed' ? fromDriver(made) : { kind: 'done', value: listOf([made.value]) }
}

export async function listSnapshots({ driver }: ActContext<'snapshots'>): Promise<ActEnd> {
  const listed = await driver.cluster.listSnapshots()
  return listed.kind === 'failed' ? fromDriver(listed) : { kind: 'done', value: listOf(listed.value) }
}

function listOf(snapshots: readonly Snapshot[]): ClusterStepEnded['value'] {
  const newest = [...snapshots].sort((a, b) => b.madeMs - a.madeMs).slice(0, MAX_SNAPSHOTS)
  return {
    case: 'snapshots',
    value: {
      $typeName: 'muster.v1.SnapshotList',
      snapshots: newest.map(({ name, path, bytes, madeMs }) => ({
        $typeName: 'muster.v1.DatastoreSnapshot',
        name,
        path,
        bytes: BigInt(bytes),
        made: timestampFromMs(Math.round(madeMs)),
      })),
    },
  }
}

/**
 * Makes this server the only one, from a copy. An operator has to have signed it. A machine that has nothing of any cluster founds by
 * it: it must be a server of the signed manifest, and have all that founding needs.
 */
export async function restoreSnapshot(context: ActContext<'restore'>): Promise<ActEnd> {
  const { driver, options, deps, action, order } = context
  const { name, signedOrder, authority } = action.value
  if (context.operation().stage === 'accepted') {
    const wanted = {
      act: 'restore',
      node: driver.nodeName,
      machine: deps.identity.id,
      parameter: name,
    } as const
    const refused = await obeyOperator(context, signedOrder, wanted)
    if (refused.kind === 'failed') return refused
    const unable = await whyNotRestore(context)
    if (unable) return unable
    await context.begin()
  }
  const restoring = {
    operation: order.operationId,
    name,
    authority: authority === '' ? undefined : authority,
  }
  const restored = await driver.cluster.restore(restoring, options)
  if (restored.kind === 'failed') return fromDriver(restored)
  const text = `${driver.nodeName} is the only server now, from ${name}: the others are wiped and join anew`
  return { kind: 'done', authority: restored.value.authority, value: { case: 'text', value: text } }
}

async function whyNotRestore(context: ActContext<'restore'>): Promise<ActFailure | undefined> {
  const { driver, options, order } = context
  const state = await driver.readState(options.signal)
  const isFresh = state.unfinished !== undefined || state.data.kind === 'none'
  if (!isFresh) return whyNotOurs(state)
  const found = await findAsServer(context, order.cluster)
  return found.kind === 'failed' ? found : await makeRoom(context, 'lost-datastore')
}

/** Makes tokens or certificates anew. An operator has to have signed it. */
export async function rotateSecrets(context: ActContext<'rotate'>): Promise<ActEnd> {
  const { driver, options, deps, action } = context
  const { what, signedOrder } = action.value
  if (what !== 'tokens' && what !== 'certificates')
    return failedAct('precondition', 'either tokens or certificates are made anew')
  const server = isServerRole(driver.facts.role)
  if (!server && what === 'tokens')
    return failedAct('unsupported', 'this machine is no server: it has no token to make anew')
  const { renewByRestart } = driver
  if (!server && !renewByRestart)
    return failedAct(
      'unsupported',
      'this machine is no server: its one certificate is its kubelet’s, which the kubelet renews by itself',
    )
  if (context.operation().stage === 'accepted') {
    const wanted = {
      act: 'rotate',
      node: driver.nodeName,
      machine: deps.identity.id,
      parameter: what,
    } as const
    const refused = await obeyOperator(context, signedOrder, wanted)
    if (refused.kind === 'failed') return refused
    const notOurs = whyNotOurs(await driver.readState(options.signal))
    if (notOurs) return notOurs
    if (server && what === 'certificates') {
      const why = await driver.cluster.whyNotStop(options.signal)
      if (why.kind === 'failed') return fromDriver(why)
      if (why.value !== undefined)
        return failedAct('quorum', `this server cannot be restarted now: ${why.value}`)
    }
    await context.begin()
  }
  if (what === 'tokens') {
    const handover = createHandover(deps, driver.facts)
    const rotation = { operation: context.operation().id, handover }
    const rotated = await driver.cluster.rotateTokens(rotation, options)
    return rotated.kind === 'failed' ? fromDriver(rotated) : doneWith(rotated.value)
  }
  const rotated =
    !server && renewByRestart
      ? await renewByRestart(options)
      : await driver.cluster.rotateCertificates(options)
  return rotated.kind === 'failed' ? fromDriver(rotated) : { kind: 'done' }
}
