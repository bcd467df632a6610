import type { Clock } from '../../shared/clock.ts'
import { verifyEnvelope } from '../../shared/envelope/envelope.ts'
import { MANIFEST_TYPE } from '../../shared/envelope/payload-types.ts'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import { millisOf } from '../../shared/time.ts'
import type { Authorities } from '../authority/authorities.ts'
import type { Observation } from '../clusters/cluster-snapshot.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import { isLive } from '../machines/entry.ts'
import type { ConditionSettings } from '../machines/show-conditions.ts'
import { isChange } from '../operations/order-action.ts'
import { readLostRollouts, textOfLost } from '../rollouts/lost-rollouts.ts'
import type { RestoreWatch } from '../rollouts/restore-watch.ts'
import type { Sessions } from '../sessions/sessions.ts'
import { newestEventAt } from '../store/events.ts'
import { openOperations, phasesOf } from '../store/operations.ts'
import { newestRevision } from '../store/revisions.ts'
import type { Store } from '../store/store.ts'
import { trustInForce } from '../store/trust-sets.ts'
import { hostsAway } from './hosts-away.ts'
import {
  type EndedChange,
  type FleetLife,
  type GoneAuthority,
  LOOK_BACK_MS,
  type OpenWork,
  type OurCordon,
  type UntrustedRevision,
} from './judge-fleet.ts'

export interface FleetLifeDeps {
  readonly store: Pick<Store, 'db'>
  readonly directory: MachineDirectory
  readonly sessions: Pick<Sessions, 'online' | 'lastMessage' | 'sessionStarts'>
  readonly clock: Clock
  readonly authorities: Pick<Authorities, 'list'>
  readonly conditions: ConditionSettings
  readonly heartbeatMs: number
  /** What a machine said of its cluster last; undefined: nothing to this process. */
  readonly observedOf: (machine: string) => Observation | undefined
  /** Why nothing is granted; undefined: nothing is in the way. */
  readonly restoreWatch: Pick<RestoreWatch, 'halted' | 'haltedSinceMs'>
}

const GOOD: readonly number[] = [OutcomeClass.SUCCEEDED, OutcomeClass.DEGRADED]

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
    untrusted: await readUntrusted(deps),
    goneAuthorities: await readGoneAuthorities(deps),
    halted: haltOf(deps.restoreWatch, nowMs),
    clusterNodes: entries.flatMap(({ id }) => {
      const { part: cluster, data, certificates } = deps.observedOf(id) ?? {}
      if (!certificates || data?.kind !== 'cluster' || !cluster) return []
      const { distribution, server } = data
      return [{ machine: id, host: hostOf(id), cluster, distribution, server, certificates }]
    }),
    heartbeatMs,
    stuckAfterMs: conditions.stuckAfterMs,
    certificateWarnMs: conditions.certificateWarnMs,
  }
}

function haltOf(watch: FleetLifeDeps['restoreWatch'], nowMs: number): FleetLife['halted'] {
  const reason = watch.halted()
  return reason === undefined ? undefined : { reason, sinceMs: watch.haltedSinceMs() ?? nowMs }
}

/** Whether the keys that count today signed the newest revision: those of the set that was in force then may be out of it. */
async function readUntrusted({ store }: FleetLifeDeps): Promise<UntrustedRevision | undefined> {
  const newest = await newestRevision(store.db)
  const inForce = newest && (await trustInForce(store.db))
  if (!inForce) return undefined
  const { trust, sinceMs } = inForce
  const verified = verifyEnvelope(newest.envelope, MANIFEST_TYPE, trust.keys, trust.set.threshold)
  if (verified.kind === 'verified') return undefined
  return { number: newest.manifest.number, trustNumber: trust.number, reason: verified.reason, sinceMs }
}

/** Of a set that lists none, machines keep to what they were given. */
async function readGoneAuthorities({ store, authorities }: FleetLifeDeps): Promise<GoneAuthority[]> {
  const inForce = await trustInForce(store.db)
  if (!inForce) return []
  const { trust, sinceMs } = inForce
  const present = new Set(authorities.list().map(({ pin }) => pin))
  const gone = trust.set.caPins.filter(pin => !present.has(pin))
  if (gone.length === 0) return []
  const steppedMs = await newestEventAt(store.db, ['authority'])
  return gone.map(pin => ({
    pin,
    trustNumber: trust.number,
    sinceMs: Math.max(steppedMs ?? sinceMs, sinceMs),
  }))
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

/** A cordon is in use while an act or an operation of its host is under way, or a rollout has the host away. */
async function readCordons({ store }: FleetLifeDeps, busyHosts: ReadonlySet<string>): Promise<OurCordon[]> {
  const { db } = store
  const cordons = await db.selectFrom('cluster_cordons').selectAll().execute()
  if (cordons.length === 0) return []
  const acts = await db.selectFrom('cluster_acts').select('host').where('ended', 'is', null).execute()
  const away = await hostsAway(db, [...new Set(cordons.map(({ host }) => host))])
  const inUse = new Set([...busyHosts, ...acts.map(({ host }) => host), ...away])
  return cordons.map(({ cluster, host, at }) => ({ cluster, host, sinceMs: at, inUse: inUse.has(host) }))
}
