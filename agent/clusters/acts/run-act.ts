import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { ClusterOrder } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { isServerRole } from '../../drivers/cluster-facts.ts'
import type { ClusterDriver } from '../../drivers/driver.ts'
import type { ClusterAction } from '../cluster-operation.ts'
import {
  type ActBase,
  type ActContext,
  type ActEnd,
  doneWith,
  failedAct,
  fromDriver,
  whyNotServing,
} from './act.ts'
import { bringManifests } from './bring-manifests.ts'
import { listSnapshots, restoreSnapshot, rotateSecrets, takeSnapshot } from './datastore.ts'
import { foundCluster, joinCluster } from './found-and-join.ts'
import { issueKubeconfig } from './kubeconfig.ts'
import { clearNode, leaveCluster, wipeNode } from './members.ts'
import { drainNode, limitOf, uncordonNode } from './nodes.ts'
import { standDown } from './stand-down.ts'
import { mintSecret } from './tokens.ts'

const MINUTE = 60_000

const LIMITS: Partial<Record<ClusterAction, number>> = {
  found: 30 * MINUTE,
  join: 30 * MINUTE,
  leave: 10 * MINUTE,
  restore: 15 * MINUTE,
  manifests: 15 * MINUTE,
  snapshot: 15 * MINUTE,
  rotate: 15 * MINUTE,
}
const OTHER_LIMIT = 5 * MINUTE

/** How long an act may take, from when it was begun here; in milliseconds. */
export function deadlineOf(action: ClusterOrder['action']): number {
  if (action.case === 'drain') return limitOf(action.value.limit, 24 * 60 * MINUTE)
  return (action.case && LIMITS[action.case]) ?? OTHER_LIMIT
}

/** The node that an act is about; this machine's own where it says none. */
export function nodeOf({ value }: ClusterOrder['action'], own: string): string {
  return value && 'node' in value ? value.node : own
}

/** Acts that work by way of this machine's server, on a cluster that is ours. */
const BY_SERVER: ReadonlySet<ClusterAction> = new Set([
  ...(['mint', 'clearNode', 'drain', 'uncordon', 'snapshot', 'kubeconfig', 'manifests'] as const),
])

/** Does what an order asks for; may be killed anywhere and is called again. */
export async function runAct(base: ActBase): Promise<ActEnd> {
  const { action } = base.order
  if (action.case === undefined)
    return failedAct('unsupported', 'the order asks for nothing that this agent knows')
  const byServer =
    BY_SERVER.has(action.case) || (action.case === 'leave' && action.value.node !== base.driver.nodeName)
  const { role } = base.driver.facts
  if ((byServer || action.case === 'restore') && !isServerRole(role))
    return failedAct('precondition', `this machine is a ${role}: only a server can do that`)
  if (byServer && base.operation().stage !== 'begun') {
    const notOurs = whyNotServing(await base.driver.readState(base.options.signal))
    if (notOurs) return notOurs
  }
  switch (action.case) {
    case 'found':
      return await foundCluster({ ...base, action })
    case 'join':
      return await joinCluster({ ...base, action })
    case 'mint':
      return await mintSecret({ ...base, action })
    case 'clearNode':
      return await clearNode({ ...base, action })
    case 'leave':
      return await leaveCluster({ ...base, action })
    case 'wipe':
      return await wipeNode({ ...base, action })
    case 'drain':
      return await drainNode({ ...base, action })
    case 'uncordon':
      return await uncordonNode({ ...base, action })
    case 'snapshot':
      return await takeSnapshot({ ...base, action })
    case 'snapshots':
      return await listSnapshots({ ...base, action })
    case 'restore':
      return await restoreSnapshot({ ...base, action })
    case 'rotate':
      return await rotateSecrets({ ...base, action })
    case 'kubeconfig':
      return await issueKubeconfig({ ...base, action })
    case 'certificates':
      return await listCertificates(base.driver)
    case 'adopt':
      return await adoptNode({ ...base, action })
    case 'standDown':
      return await standDown({ ...base, action })
    case 'manifests':
      return await bringManifests({ ...base, action })
    case 'deleteSecret':
    case 'stop':
      // Neither is ever begun: what they take back is noted when they come.
      return doneWith('')
  }
}

const MAX_CERTIFICATES = 200

async function listCertificates(driver: ClusterDriver): Promise<ActEnd> {
  const listed = await driver.certificates()
  if (listed.kind === 'failed') return fromDriver(listed)
  const certificates = listed.value
    .slice(0, MAX_CERTIFICATES)
    .map(({ path, subject, endsMs, authority }) => ({
      $typeName: 'muster.v1.NodeCertificate' as const,
      path,
      subject: subject.slice(0, 300),
      authority,
      notAfter: timestampFromMs(endsMs),
    }))
  return {
    kind: 'done',
    value: { case: 'certificates', value: { $typeName: 'muster.v1.CertificateList', certificates } },
  }
}

async function adoptNode({ driver, action, begin }: ActContext<'adopt'>): Promise<ActEnd> {
  await begin()
  const adopted = await driver.adopt(action.value.authority)
  return adopted.kind === 'failed'
    ? fromDriver(adopted)
    : { kind: 'done', authority: adopted.value.authority }
}
