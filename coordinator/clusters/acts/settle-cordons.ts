import { create, toBinary } from '@bufbuild/protobuf'
import type { Clock } from '../../../shared/clock.ts'
import { ClusterOrderSchema } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { operationId } from '../../../shared/ids.ts'
import { noteLostRollout } from '../../rollouts/lost-rollouts.ts'
import { recordEvent } from '../../store/events.ts'
import type { Store } from '../../store/store.ts'
import { type ClusterSnapshot, liveServers, newestView } from '../cluster-snapshot.ts'
import {
  cordonActsOf,
  dropCordon,
  findActByRequest,
  insertAct,
  listCordons,
  noteCordon,
} from './act-store.ts'
import { plainAct } from './cluster-act.ts'
import { type CordonStep, decideCordon, differingCordons, type SeenNodes } from './decide-cordons.ts'
import { rolloutOfDrain } from './drain-id.ts'

/** The newest that a live server saw of the nodes; undefined: nobody can say. */
export function seenNodes(snapshot: ClusterSnapshot, now: number): SeenNodes | undefined {
  const reading = newestView(snapshot, now)
  if (reading.kind === 'unknown') return undefined
  const server = liveServers(snapshot, now).find(({ view }) => view === reading.view)
  return server && { asOfMs: server.asOfMs, nodes: reading.view.nodes }
}

/**
 * Takes down of cordons what nodes really have: after the coordinator's store or the cluster's datastore was set back, what is known here
 * is not what is there. Says whether anything changed.
 */
export async function settleCordons(
  { store, clock }: { readonly store: Store; readonly clock: Clock },
  snapshot: ClusterSnapshot,
): Promise<boolean> {
  const at = clock.now()
  const cluster = snapshot.record.name
  const seen = seenNodes(snapshot, at.getTime())
  if (!seen) return false
  const differing = differingCordons(seen, await listCordons(store.db, cluster))
  if (differing.length === 0) return false
  return await store.transact(async tx => {
    const stored = new Map((await listCordons(tx, cluster)).map(cordon => [cordon.host, cordon]))
    let changed = false
    for (const node of differing) {
      const acts = await cordonActsOf(tx, cluster, node.name)
      const step = decideCordon(node, seen.asOfMs, stored.get(node.name), acts)
      if (!step || (step.kind === 'lift' && (await findActByRequest(tx, requestOf(cluster, step))))) continue
      changed = true
      const { host, act } = step
      if (step.kind === 'gone') await dropCordon(tx, cluster, host, act)
      else await noteCordon(tx, { cluster, host }, { kind: 'of', act }, at.getTime())
      const rollout = step.kind === 'found' ? rolloutOfDrain(act) : undefined
      // What it was on its way to no mark says.
      if (rollout !== undefined) {
        const claim = { id: rollout, action: 'drain', revision: 0, host }
        await noteLostRollout(tx, claim, host, at)
      }
      if (step.kind === 'lift') {
        const value = { node: host, cordonedBy: act }
        const order = create(ClusterOrderSchema, { action: { case: 'uncordon', value } })
        const lifts = { request: requestOf(cluster, step), act: 'uncordon', host, machine: '' } as const
        await insertAct(tx, {
          ...plainAct({ id: operationId(at), cluster, askedBy: 'coordinator', askedMs: at.getTime() }),
          ...lifts,
          parameter: act,
          order: toBinary(ClusterOrderSchema, order),
        })
      }
      const reason = `${cluster}: ${describeStep(step)}`
      await recordEvent(tx, { at, class: 'cluster', machine: '', host, reason, actor: 'coordinator' })
    }
    return changed
  })
}

const requestOf = (cluster: string, { host, act, lifted }: Extract<CordonStep, { kind: 'lift' }>): string =>
  `uncordon ${cluster} ${host} ${act} again after ${lifted}`

function describeStep(step: CordonStep): string {
  switch (step.kind) {
    case 'found':
      return `the node of ${step.host} has a cordon of ours that was not known here (act ${step.act})`
    case 'gone':
      return `the cordon of ours on the node of ${step.host} is gone (act ${step.act})`
    case 'lift':
      return `a cordon of ours that was lifted is back on the node of ${step.host} (act ${step.act}): it is lifted again`
  }
}
