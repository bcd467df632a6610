import type { MessageInitShape } from '@bufbuild/protobuf'
import type {
  AdoptClusterRequest,
  AdoptClusterResponseSchema,
} from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { aborted, notFound, precondition } from '../../../shared/rpc/rpc-error.ts'
import { applyAdoption, judgeAdoption } from '../../clusters/judge-adoption.ts'
import { loadRecord, saveRecord } from '../../clusters/record-store.ts'
import type { ClusterServiceDeps } from '../../services/cluster-service.ts'
import { recordEvent } from '../../store/events.ts'
import { actorOf, type Caller } from '../caller.ts'
import { listProblems } from '../list-problems.ts'
import { describeSummary } from './describe-cluster.ts'

/**
 * Takes a running cluster in as it is. What was judged is what is written: when the record changed meanwhile, nothing is. Its
 * nodes are told by the cluster's next turns, each as soon as it can be.
 */
export function adoptCluster(deps: ClusterServiceDeps) {
  return async (
    { name, dryRun }: AdoptClusterRequest,
    caller: Caller,
  ): Promise<MessageInitShape<typeof AdoptClusterResponseSchema>> => {
    const { clusters, store, clock } = deps
    const snapshot = await clusters.snapshot(name)
    if (!snapshot) throw notFound(`name: the newest revision has no cluster ${name.slice(0, 64)}`)
    const at = clock.now()
    const verdict = judgeAdoption(snapshot, at.getTime())
    if (verdict.kind === 'refused') throw precondition(listProblems(verdict.problems))
    const { adoption, warnings } = verdict
    const record = applyAdoption(snapshot.record, adoption, at.getTime())
    const answer = {
      summary: describeSummary({ ...snapshot, record }, at.getTime()),
      hosts: [...adoption.hosts],
      warnings: [...warnings],
    }
    if (dryRun) return answer
    const written = await store.transact(async tx => {
      const stored = await loadRecord(tx, name)
      const { founding, count } = stored.record
      const isSame =
        count === snapshot.record.count &&
        founding?.state === snapshot.record.founding?.state &&
        founding?.operation === snapshot.record.founding?.operation
      if (!isSame || !(await saveRecord(tx, stored, applyAdoption(stored.record, adoption, at.getTime())))) {
        return false
      }
      const { host, machine } = adoption.firstServer
      const reason = `${name}: adopted with ${adoption.hosts.join(', ')}; authority ${adoption.authority}`
      await recordEvent(tx, { at, class: 'cluster', machine, host, reason, actor: actorOf(caller) })
      return true
    })
    if (!written) throw aborted('name: the cluster changed meanwhile; look at it and adopt it again')
    clusters.trigger(name)
    return answer
  }
}
