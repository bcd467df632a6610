import type { Clock } from '../../shared/clock.ts'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import { millisOf } from '../../shared/time.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import { isLive } from '../machines/entry.ts'
import type { ConditionSettings } from '../machines/show-conditions.ts'
import { isChange } from '../operations/order-action.ts'
import { readLostRollouts, textOfLost } from '../rollouts/lost-rollouts.ts'
import type { Sessions } from '../sessions/sessions.ts'
import { openOperations, phasesOf } from '../store/operations.ts'
import type { Store } from '../store/store.ts'
import {
  type EndedChange,
  type FleetLife,
  LOOK_BACK_MS,
  type OpenWork,
  type OurCordon,
} from './judge-fleet.ts'

export interface FleetLifeDeps {
  readonly store: Pick<Store, 'db'>
  readonly directory: MachineDirectory
  readonly sessions: Pick<Sessions, 'online' | 'lastMessage' | 'sessionStarts'>
  readonly clock: Clock
  readonly conditions: ConditionSettings
  readonly heartbeatMs: number
}

const GOOD: readonly number[] = [OutcomeClass.SUCCEEDED, OutcomeClass.DEGRADED]
const ACTIVE = ['running', 'paused', 'ending']

/** Reads what the invariants of the fleet are about. */
export async function readFleetLife(deps: FleetLifeDeps): Promise<FleetLife> {
  const { directory, sessions, clock, conditions, heartbeatMs } = deps
  const entries = [...directory.entries()].filter(({ state }) => isLive(state))
  const hostOf = (machine: string) => {
    const assignment = directory.assignment(machine)
    return assignment.kind === 'host' ? assignment.host : ''
  }
  const machines = entries.map(entry => ({
    id: entry.id,
    host: hostOf(entry.id),
    state: entry.state,
    online: sessions.online(entry.id),
    lastMessageMs: sessions.lastMessage(entry.id)?.getTime(),
    sessionStartsMs: sessions.sessionStarts(entry.id),
    admittedAtMs: entry.admittedAtMs,
    certificateNotAfterMs: entry.certificateNotAfterMs,
  }))
  const nowMs = clock.now().getTime()
  const open = await readOpen(
    deps,
    entries.map(({ id }) => id),
  )
  return {
    machines,
    ended: await readEnded(deps, nowMs),
    open: [...open, ...(await readGrants(deps, new Set(open.map(({ id }) => id)), nowMs))],
    cordons: await readCordons(deps, new Set(open.map(({ host }) => host))),
    lost: (await readLostRollouts(deps.store.db)).map(lost => ({
      what: textOfLost(lost),
      sinceMs: lost.sinceMs,
    })),
    heartbeatMs,
    stuckAfterMs: conditions.stuckAfterMs,
    certificateWarnMs: conditions.certificateWarnMs,
  }
}

async function readEnded({ store }: FleetLifeDeps, nowMs: number): Promise<EndedChange[]> {
  const rows = await store.db
    .selectFrom('operations')
    .select(['action', 'outcome_class', 'ended'])
    .where('ended', '>=', nowMs - LOOK_BACK_MS)
    .limit(10_000)
    .execute()
  return rows
    .filter(({ action, ended }) => ended !== null && isChange(action ?? 'apply'))
    .map(({ outcome_class, ended }) => ({ endedMs: Number(ended), succeeded: GOOD.includes(outcome_class) }))
}

async function readOpen({ store }: FleetLifeDeps, ids: readonly string[]): Promise<OpenWork[]> {
  const rows = await openOperations(store.db, ids)
  const phases = await phasesOf(
    store.db,
    rows.map(({ id }) => id),
  )
  return rows.map(row => ({
    id: row.id,
    machine: row.machine,
    host: row.host,
    what: `operation (${row.action ?? 'apply'})`,
    toldMs: row.delivered ?? undefined,
    newestMs: Math.max(
      row.ordered,
      ...(phases.get(row.id) ?? []).flatMap(({ started, ended }) => [
        millisOf(started) ?? 0,
        millisOf(ended) ?? 0,
      ]),
    ),
  }))
}

/**
 * Grants of rollouts that are not closed, beside those whose operation tells of itself. An act with an end of its own is waited for
 * until then; what the coordinator does itself, such as a soak, has no operation.
 */
async function readGrants(
  { store }: FleetLifeDeps,
  told: ReadonlySet<string>,
  nowMs: number,
): Promise<OpenWork[]> {
  const rows = await store.db
    .selectFrom('rollout_grants')
    .leftJoin('cluster_acts', 'cluster_acts.id', 'rollout_grants.operation')
    .select([
      'rollout_grants.rollout',
      'rollout_grants.host',
      'rollout_grants.machine',
      'rollout_grants.step',
      'rollout_grants.operation',
      'rollout_grants.granted',
      'cluster_acts.expires',
    ])
    .where('rollout_grants.closed', 'is', null)
    .where('rollout_grants.operation', '!=', '')
    .limit(10_000)
    .execute()
  return rows
    .filter(({ operation, expires }) => !told.has(operation) && (expires === null || expires <= nowMs))
    .map(({ rollout, host, machine, step, granted }) => ({
      id: rollout,
      machine,
      host,
      what: `the step "${step}" of rollout`,
      toldMs: granted,
      newestMs: granted,
    }))
}

/** A cordon is in use while an act, an operation or a rollout of its host is under way. */
async function readCordons({ store }: FleetLifeDeps, busyHosts: ReadonlySet<string>): Promise<OurCordon[]> {
  const { db } = store
  const cordons = await db.selectFrom('cluster_cordons').selectAll().execute()
  if (cordons.length === 0) return []
  const acts = await db.selectFrom('cluster_acts').select('host').where('ended', 'is', null).execute()
  const rollouts = await db
    .selectFrom('rollout_hosts')
    .innerJoin('rollouts', 'rollouts.id', 'rollout_hosts.rollout')
    .select('rollout_hosts.host')
    .where('rollouts.state', 'in', ACTIVE)
    .execute()
  const inUse = new Set([...busyHosts, ...acts.map(({ host }) => host), ...rollouts.map(({ host }) => host)])
  return cordons.map(({ cluster, host, at }) => ({ cluster, host, sinceMs: at, inUse: inUse.has(host) }))
}
