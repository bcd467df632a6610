import type { Clock } from '../../shared/clock.ts'
import type { StartRolloutRequest } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { operationId } from '../../shared/ids.ts'
import { DEFAULT_POLICY } from '../../shared/rollout/rollout-policy.ts'
import { exists, precondition } from '../../shared/rpc/rpc-error.ts'
import { listProblems } from '../api/list-problems.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import { newestRevision } from '../store/revisions.ts'
import type { RolloutRow } from '../store/rollouts.ts'
import { findRolloutByRequest } from '../store/rollouts.ts'
import { isUniqueViolation, type Store } from '../store/store.ts'
import type { ClusterSource } from './cluster-source.ts'
import { freezeSettings } from './frozen-settings.ts'
import { isServerRole, type Member, orderMembers } from './members.ts'
import { isMove } from './plan/host-steps.ts'
import { findOrderCircle } from './plan/predecessors.ts'
import { isClusterAction, type RolloutAction, type RolloutRecord } from './plan/rollout-record.ts'
import type { ClusterView } from './plan/rollout-snapshot.ts'
import { howOfAct } from './read-record.ts'
import type { RolloutRunner } from './runner.ts'
import { intentOf, type NewRollout, writeRollout } from './start-rollout.ts'

export interface BeginDeps {
  readonly store: Store
  readonly directory: MachineDirectory
  readonly clock: Clock
  readonly runner: Pick<RolloutRunner, 'runNow' | 'changed'>
  readonly halted: () => string | undefined
  readonly clusters: Pick<ClusterSource, 'views'>
}

export interface Beginning {
  readonly asked: StartRolloutRequest
  readonly action: RolloutAction
  readonly revision: { readonly number: number; readonly digest: string } | undefined
  readonly members: readonly Member[]
  /** Hosts were named one by one, and whoever named them waits. */
  readonly direct: boolean
  readonly prefetch: boolean
  readonly awayMs: number
  readonly startedBy: string
  readonly reverts?: string
  /** Canaries that are asked for may be no hosts of it: then another stands in. */
  readonly canariesElsewhere?: boolean
  /** SHA-256 of what was asked for, where it was not asked for as `asked`. */
  readonly intent?: string
}

/** Puts together what is frozen of a rollout. */
export async function prepareRollout(
  { store, clock, clusters }: Pick<BeginDeps, 'store' | 'clock' | 'clusters'>,
  beginning: Beginning,
): Promise<NewRollout> {
  const { asked, action, revision, members, direct, prefetch, awayMs, startedBy, reverts = '' } = beginning
  const newest = await newestRevision(store.db)
  const policy = newest?.manifest.rollout ?? DEFAULT_POLICY
  const { frozen, canaries, canarySize, remark } = freezeSettings(policy, asked.settings, action, {
    direct,
    prefetch,
    awayMs,
  })
  const unknown = asked.settings?.canaries.filter(name => !members.some(({ host }) => host === name)) ?? []
  if (unknown.length > 0 && !beginning.canariesElsewhere) {
    throw precondition(`settings.canaries: ${unknown.slice(0, 5).join(', ')} is no host of this rollout`)
  }
  // What a cluster does is asked of it also where its node has not joined, or has left.
  const views = members.every(({ cluster }) => cluster === undefined)
    ? undefined
    : await clusters.views(clock.now().getTime())
  const placed = isClusterAction(action) || !views ? members : outsideUntilJoined(views, members)
  const without = action === 'restart' ? placed.filter(({ cluster }) => cluster === undefined) : []
  if (without.length > 0) {
    throw precondition(
      listProblems(
        without.map(({ host }) => `${host}: runs no Kubernetes of a cluster, so there is nothing to restart`),
      ),
    )
  }
  const { members: ordered, standIn } = orderMembers(placed, {
    named: canaries,
    size: canarySize,
    // A way back is kept waiting for nobody, and acts of clusters prove nothing.
    standIn: isMove(action) && action !== 'rollback',
    leaders: new Set([...(views?.values() ?? [])].flatMap(({ leader }) => leader ?? [])),
  })
  const circle = findOrderCircle(
    ordered.map(member => ({
      host: member.host,
      cluster: member.cluster,
      after: member.after,
      server: member.cluster !== undefined && isServerRole(member.role),
    })),
    policy.follows,
  )
  if (circle !== undefined) {
    throw precondition(
      `after: ${circle} would have to be done before itself, by edges, clusters and roles together`,
    )
  }
  return {
    id: operationId(clock.now()),
    asked,
    intent: beginning.intent ?? intentOf(asked),
    action,
    revision: revision?.number ?? 0,
    manifestDigest: revision?.digest ?? '',
    members: ordered,
    standIn,
    settings: frozen,
    startedBy,
    reverts,
    remark,
  }
}

/** A machine that certainly runs nothing of its cluster yet is as one outside of it: there is nothing in it to take care of. */
function outsideUntilJoined(
  views: ReadonlyMap<string, ClusterView>,
  members: readonly Member[],
): readonly Member[] {
  return members.map(member => {
    const view =
      member.cluster === undefined ? undefined : views.get(member.cluster)?.members.get(member.host)
    return view?.joined === false ? { ...member, cluster: undefined } : member
  })
}

/** Writes a rollout and lets the planner look at it at once: what may be granted now is granted when this returns. */
export async function beginRollout(deps: BeginDeps, beginning: Beginning): Promise<RolloutRow> {
  const { store, clock, runner } = deps
  const { requestId } = beginning.asked
  const halted = deps.halted()
  if (halted !== undefined) throw precondition(`nothing is begun: ${halted}`)
  // What is over is taken down as over first, so that a host is free as soon as its operation has ended.
  await runner.runNow()
  const rollout = await prepareRollout(deps, beginning)
  const started = await store
    .transact(tx => writeRollout(tx, rollout, clock.now()))
    .catch(async error => {
      // On a store with several writers the same request may be committed while this one is being written.
      const row = isUniqueViolation(error) && (await findRolloutByRequest(store.db, requestId))
      if (!row) throw error
      return { kind: 'known', row } as const
    })
  if (started.kind === 'refused') throw precondition(listProblems(started.problems))
  if (started.kind === 'known' && started.row.intent !== rollout.intent) {
    throw exists('request_id: was used for another rollout already; use a new one for each intent')
  }
  await runner.runNow()
  return started.row
}

/** A rollout as the planner would read it, were it written. */
export function recordOfNew(rollout: NewRollout, nowMs: number): RolloutRecord {
  return {
    id: rollout.id,
    action: rollout.action,
    how: howOfAct(rollout.action, rollout.asked.act),
    revision: rollout.revision,
    state: 'running',
    endsAs: undefined,
    startedMs: nowMs,
    settings: rollout.settings,
    after: rollout.asked.after,
    reverts: rollout.reverts === '' ? undefined : rollout.reverts,
    hosts: rollout.members.map(member => ({
      host: member.host,
      machine: member.machine,
      cluster: member.cluster,
      server: member.cluster !== undefined && isServerRole(member.role),
      canary: member.canary,
      after: member.after,
      drainLimitMs: member.drainLimitMs,
      boots: member.boots,
      grants: [],
    })),
    overrides: new Set(),
  }
}
