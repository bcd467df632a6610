import type { Clock } from '../../shared/clock.ts'
import { cutText } from '../../shared/cut-text.ts'
import { reasonOf } from '../../shared/errors.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'
import { NOT_OURS } from '../clusters/acts/absorb-act-report.ts'
import { findActsByRequests, listCordons } from '../clusters/acts/act-store.ts'
import type { ClusterAct } from '../clusters/acts/cluster-act.ts'
import { type Asked, type Granted, operatorRequest } from '../clusters/acts/grant-act.ts'
import { readAsk } from '../clusters/acts/read-ask.ts'
import type { Conductor } from '../clusters/conductor.ts'
import type { FleetTargetsCache } from '../revisions/fleet-targets.ts'
import type { Store } from '../store/store.ts'
import { actRequest } from './act-request.ts'
import type { ClusterSource } from './cluster-source.ts'
import { viewOfCluster } from './plan/cluster-view.ts'
import type { ClusterView, OperationView } from './plan/rollout-snapshot.ts'

export interface ConductorSourceDeps {
  readonly store: Store
  readonly clock: Clock
  readonly clusters: Pick<Conductor, 'snapshot' | 'trigger' | 'follow'>
  readonly fleetTargets: Pick<FleetTargetsCache, 'current'>
  readonly grantAct: (asked: Asked) => Promise<Granted>
}

/** Rollouts' door to the clusters that the coordinator conducts. */
export function conductorSource(deps: ConductorSourceDeps): ClusterSource {
  const { store, clock, clusters, fleetTargets, grantAct } = deps
  return {
    async views(nowMs) {
      const views = new Map<string, ClusterView>()
      const known = fleetTargets.current().clusters
      if (known.size === 0) return views
      const cordons = await listCordons(store.db)
      for (const name of known.keys()) {
        const snapshot = await clusters.snapshot(name)
        const own = new Map(
          cordons.filter(({ cluster }) => cluster === name).map(cordon => [cordon.host, cordon]),
        )
        if (snapshot) views.set(name, viewOfCluster(snapshot, own, nowMs))
      }
      return views
    },
    async acts(ids) {
      const acts = await findActsByRequests(store.db, ids.map(operatorRequest))
      const byRequest = new Map(acts.map(act => [act.request, act]))
      const found = new Map<string, OperationView>()
      for (const id of ids) {
        const act = byRequest.get(operatorRequest(id))
        if (act) found.set(id, viewOfAct(id, act))
      }
      return found
    },
    async ask(act) {
      try {
        const ask = readAsk(actRequest(act), clock.now())
        const onTheWay = act.step !== 'act'
        const granted = await grantAct({ ask, askedBy: act.actor, id: act.id, onTheWay })
        clusters.trigger(act.cluster)
        if (granted.kind === 'refused') return granted.problems.join('; ')
        return granted.kind === 'no-cluster' ? `there is no cluster ${act.cluster}` : undefined
      } catch (error) {
        if (error instanceof RpcError) return reasonOf(error)
        throw error
      }
    },
    follow: machines => clusters.follow(machines),
  }
}

function viewOfAct(id: string, act: ClusterAct): OperationView {
  return {
    id,
    state: act.endedMs === undefined ? 'open' : act.done ? 'done' : 'failed',
    reason: cutText(`${act.class === '' ? '' : `${act.class}: `}${act.reason}`, 500),
    endedMs: act.endedMs,
    retryDelaysMs: [],
    untouched: true,
    plan: undefined,
    othersCordon: act.act === 'uncordon' && act.class === NOT_OURS,
  }
}
