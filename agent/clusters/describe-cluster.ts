import type { MessageInitShape } from '@bufbuild/protobuf'
import { reasonOf } from '../../shared/errors.ts'
import type { ClusterState } from '../../shared/gen/muster/v1/cluster_pb.ts'
import type { GetStatusResponseSchema } from '../../shared/gen/muster/v1/local_pb.ts'
import type { ClusterOperation } from './cluster-operation.ts'
import type { SeenStanding } from './cluster-standing.ts'
import type { Clusters } from './clusters.ts'

/** Programs of Kubernetes may hang where their server does; whoever looks at this machine's status waits no longer. */
const READ_MS = 5_000
const MAX_OPERATIONS = 10

/** A machine's part in its cluster for its own status; nothing where it has none and was ordered none. */
export async function describeCluster(
  clusters: Pick<Clusters, 'standing' | 'operations'>,
): Promise<Pick<MessageInitShape<typeof GetStatusResponseSchema>, 'cluster'>> {
  const operations = clusters.operations().slice(0, MAX_OPERATIONS).map(describeOperation)
  try {
    const seen = await clusters.standing.look(undefined, READ_MS)
    const { distribution, role, held, state } = seen
    if (state.cluster === '' && state.data.case === 'none' && operations.length === 0) return {}
    const { data: own } = state
    const authority = own.case === 'present' || own.case === 'lost' ? own.value.authority : ''
    const data = describeData(own, seen)
    const { cluster, version } = state
    return { cluster: { cluster, version, distribution, role, held, authority, data, operations } }
  } catch (error) {
    return { cluster: { cluster: '', data: `unknown: ${reasonOf(error)}`, operations } }
  }
}

function describeData(
  data: ClusterState['data'],
  { adopted, stoodDown }: Pick<SeenStanding, 'adopted' | 'stoodDown'>,
): string {
  switch (data.case) {
    case undefined:
    case 'none':
      return 'none'
    case 'present':
      if (data.value.authority !== adopted) return 'not adopted'
      return stoodDown ? 'stood down: from before the cluster was set back to a snapshot' : 'member'
    case 'lost':
      return `lost: its datastore ${data.value.path} is gone`
    case 'unfinished':
      return `unfinished: ${data.value.operationId}`
    case 'unreadable':
      return `unreadable: ${data.value.reason}`
  }
}

function describeOperation({ id, action, stage, reports }: ClusterOperation) {
  const ended = reports.map(({ report }) => report.result).find(result => result.case === 'ended')
  const failed = ended?.case === 'ended' && !ended.value.done ? ended.value : undefined
  return {
    operationId: id,
    action,
    state: stage === 'ended' ? (failed ? 'failed' : 'done') : stage,
    reason: failed ? `${failed.class}: ${failed.reason}` : '',
  }
}
