import type { MessageInitShape } from '@bufbuild/protobuf'
import {
  type ClusterHostSchema,
  ClusterStanding,
  type ClusterSummarySchema,
} from '../../../shared/gen/muster/v1/cluster_pb.ts'
import type { ClusterAct, Cordon } from '../../clusters/acts/cluster-act.ts'
import { isCordonedByOthers } from '../../clusters/acts/decide-cordons.ts'
import { wireRole } from '../../clusters/cluster-messages.ts'
import { authorityOf } from '../../clusters/cluster-record.ts'
import { type ClusterSnapshot, freshObservation, newestView } from '../../clusters/cluster-snapshot.ts'
import { joinedHosts } from '../../clusters/decide-joins.ts'
import { readQuorum } from '../../clusters/quorum.ts'
import { describeReason, type Waiting } from '../../clusters/reasons.ts'

/** A cluster in one line. */
export function describeSummary(
  snapshot: ClusterSnapshot,
  now: number,
): MessageInitShape<typeof ClusterSummarySchema> {
  const { record, hosts, distribution } = snapshot
  const reading = readQuorum(snapshot, now)
  const { voters = 0, healthy = 0 } = reading.kind === 'read' ? reading.quorum : {}
  return {
    name: record.name,
    distribution,
    standing: standingOf(snapshot),
    authority: authorityOf(record) ?? '',
    firstServer:
      hosts.find(({ machine }) => machine !== undefined && machine === record.firstServer)?.host ?? '',
    voters,
    healthyVoters: healthy,
    hosts: hosts.length,
    joined: joinedHosts(snapshot).length,
  }
}

function standingOf({ record, machines }: ClusterSnapshot): ClusterStanding {
  switch (record.founding?.state) {
    case 'founded':
      return ClusterStanding.FOUNDED
    case 'ordered':
    case 'failed':
      return ClusterStanding.FOUNDING
    case undefined: {
      const running = [...machines.values()].some(({ observation }) => observation?.data.kind === 'cluster')
      return running ? ClusterStanding.TO_ADOPT : ClusterStanding.NEW
    }
  }
}

/** Its hosts, each with what it waits for. */
export function describeHosts(
  snapshot: ClusterSnapshot,
  around: {
    readonly waiting: readonly Waiting[]
    readonly acts: readonly ClusterAct[]
    readonly cordons: readonly Cordon[]
  },
  now: number,
): MessageInitShape<typeof ClusterHostSchema>[] {
  const joined = new Set(joinedHosts(snapshot))
  const reading = newestView(snapshot, now)
  const nodes = reading.kind === 'read' ? reading.view.nodes : []
  return snapshot.hosts.map(({ host, machine, role, barred }) => {
    const reasons = around.waiting
      .filter(each => each.host === host)
      .map(({ reason }) => describeReason(reason))
    if (barred && joined.has(host)) reasons.push(describeReason(barred))
    for (const act of around.acts) if (act.host === host) reasons.push(describeOpen(act))
    const own = nodes.find(({ name }) => name === host)
    const withoutNode = role === 'server' && joined.has(host) && reading.kind === 'read' && !own
    return {
      host,
      machine: machine ?? '',
      role: wireRole(role),
      joined: joined.has(host),
      version: snapshot.machines.get(machine ?? '')?.observation?.version ?? '',
      waitsFor: [...new Set(reasons)],
      ready: withoutNode
        ? freshObservation(snapshot, machine, now)?.view?.ready === true
        : own?.ready === true,
      withoutNode,
      cordonedByOthers: own !== undefined && isCordonedByOthers(own),
      cordonedBy: around.cordons.find(cordon => cordon.host === host)?.act ?? '',
    }
  })
}

/** An act under way, in one sentence. */
export function describeOpen({ act, id, reason, executorHost, attempts }: ClusterAct): string {
  const by = executorHost === '' ? '' : ` by way of ${executorHost}`
  const why = reason === '' ? '' : `: ${reason}`
  const tried = attempts === 0 ? '' : ` (failed ${attempts === 1 ? 'once' : `${attempts} times`})`
  return `${act} is under way${by}${tried}${why} (act ${id})`
}
