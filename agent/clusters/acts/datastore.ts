import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { ClusterStepEnded } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { isServerRole } from '../../drivers/cluster-facts.ts'
import type { Snapshot } from '../../drivers/driver.ts'
import { type ActContext, type ActEnd, doneWith, failedAct, fromDriver, whyNotOurs } from './act.ts'
import { obeyOperator } from './obey-operator.ts'

const MAX_SNAPSHOTS = 100

/** Copies the datastore into a folder for root alone. */
export async function takeSnapshot(context: ActContext<'snapshot'>): Promise<ActEnd> {
  const { driver, options, action } = context
  const { name } = action.value
  if (!/^[A-Za-z0-9-]{1,63}$/.test(name))
    return failedAct('precondition', 'the name of a snapshot has letters, digits and hyphens, at most 63')
  await context.begin()
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
        ...{ name, path, bytes: BigInt(bytes), made: timestampFromMs(Math.round(madeMs)) },
      })),
    },
  }
}

/** Makes this server the only one, from a copy. An operator has to have signed it. */
export async function restoreSnapshot(context: ActContext<'restore'>): Promise<ActEnd> {
  const { driver, options, deps, action } = context
  const { name, signedOrder } = action.value
  if (context.operation().stage === 'accepted') {
    const wanted = {
      act: 'restore',
      node: driver.nodeName,
      machine: deps.identity.id,
      parameter: name,
    } as const
    const refused = await obeyOperator(context, signedOrder, wanted)
    if (refused.kind === 'failed') return refused
    const notOurs = whyNotOurs(await driver.readState(options.signal))
    if (notOurs) return notOurs
    await context.begin()
  }
  const restored = await driver.cluster.restore(name, options)
  if (restored.kind === 'failed') return fromDriver(restored)
  return doneWith(
    `${driver.nodeName} is the only server now, from ${name}: the others are wiped and join anew`,
  )
}

/** Makes tokens or certificates anew. An operator has to have signed it. */
export async function rotateSecrets(context: ActContext<'rotate'>): Promise<ActEnd> {
  const { driver, options, deps, action } = context
  const { what, signedOrder } = action.value
  if (what !== 'tokens' && what !== 'certificates')
    return failedAct('precondition', 'either tokens or certificates are made anew')
  if (!isServerRole(driver.facts.role))
    return failedAct('unsupported', 'this machine is no server: its kubelet renews its own certificate')
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
    if (what === 'certificates') {
      const why = await driver.cluster.whyNotStop(options.signal)
      if (why.kind === 'failed') return fromDriver(why)
      if (why.value !== undefined)
        return failedAct('quorum', `this server cannot be restarted now: ${why.value}`)
    }
    await context.begin()
  }
  if (what === 'tokens') {
    const rotated = await driver.cluster.rotateTokens(options.signal)
    return rotated.kind === 'failed' ? fromDriver(rotated) : doneWith(rotated.value)
  }
  const rotated = await driver.cluster.rotateCertificates(options)
  return rotated.kind === 'failed' ? fromDriver(rotated) : { kind: 'done' }
}
