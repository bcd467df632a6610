import { fromBinary, type MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import {
  type ClusterActSchema,
  type ClusterStepEnded,
  ClusterStepEndedSchema,
} from '../../../shared/gen/muster/v1/cluster_pb.ts'
import type { ClusterAct } from '../../clusters/acts/cluster-act.ts'

/** An act as operators see it. `secret`: the end with the kubeconfig in it, for the one who fetches it. */
export function describeAct(
  act: ClusterAct,
  secret?: ClusterStepEnded,
): MessageInitShape<typeof ClusterActSchema> {
  const { id, cluster, host, askedBy, askedMs, endedMs, reason, result } = act
  const ended = secret ?? (result && fromBinary(ClusterStepEndedSchema, result))
  return {
    id,
    cluster,
    act: act.act,
    host,
    askedBy,
    reason,
    executor: act.executorHost,
    asked: timestampFromMs(askedMs),
    ...(endedMs !== undefined && {
      ended: timestampFromMs(endedMs),
      result: ended ?? { done: act.done, class: act.class, reason },
    }),
  }
}
