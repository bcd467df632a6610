import type { MessageInitShape } from '@bufbuild/protobuf'
import type {
  WatchClusterActRequest,
  WatchClusterActResponseSchema,
} from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { notFound } from '../../../shared/rpc/rpc-error.ts'
import { findAct } from '../../clusters/acts/act-store.ts'
import type { ClusterServiceDeps } from '../../services/cluster-service.ts'
import type { Caller } from '../caller.ts'
import { describeAct } from './describe-act.ts'

/** Sends an act as it is, then whenever it changes; ends with its end. A kubeconfig is given to one watcher, once. */
export function watchClusterAct(deps: ClusterServiceDeps) {
  return async function* (
    { id }: WatchClusterActRequest,
    _caller: Caller,
    signal: AbortSignal,
  ): AsyncGenerator<MessageInitShape<typeof WatchClusterActResponseSchema>> {
    const { store, clusters, clock } = deps
    // Before the first look, so that no change falls between the two.
    using watch = clusters.feed.watch([id])
    for (;;) {
      const act = await findAct(store.db, id)
      if (!act) throw notFound(`id: there is no act ${id.slice(0, 64)}`)
      if (act.endedMs !== undefined) {
        const secret =
          act.act === 'kubeconfig' ? clusters.kubeconfigs.take(id, clock.now().getTime()) : undefined
        yield { act: describeAct(act, secret) }
        return
      }
      yield { act: describeAct(act) }
      await watch.next(signal)
      if (signal.aborted) return
    }
  }
}
