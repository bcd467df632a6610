import type { Kysely } from 'kysely'
import { type EndedState, OPEN_STATES, type RolloutRow } from './rollouts.ts'
import type { Database } from './tables.ts'

/** Rollouts to a revision that are looked back over. */
const MOST = 100
const CHUNK = 500

export interface LeftBehind {
  readonly rollout: string
  readonly host: string
  readonly revision: number
  /** What the rollout was asked for by. */
  readonly request: string
  readonly ended: number | null
  readonly state: string
  readonly reason: string
}

/** Actions that bring something of a revision: the system, or the Kubernetes that lives apart from it. */
export type Brings = 'apply' | 'upgrade'

/** What says anew what a host should have of the same. */
const SUPERSEDED_BY: Readonly<Record<Brings, readonly string[]>> = {
  apply: ['apply', 'rollback'],
  upgrade: ['upgrade'],
}

/**
 * Hosts that the last rollout of this action which said something of them left behind, though it succeeded and nobody took it back; at most
 * 1,000. One that failed or was aborted says nothing of hosts that it did not move, as with what a host should be; but where it was to bring
 * the same once more, it was tried, or called off, and is not begun again by itself.
 */
export async function leftBehind(db: Kysely<Database>, action: Brings): Promise<readonly LeftBehind[]> {
  return await leftBy(db, action, ['succeeded']).execute()
}

/**
 * Hosts that the last rollout which was to bring them this left behind as it failed or was aborted, where the coordinator had begun it for
 * those that were behind: its request begins so. Nothing is begun for them by itself; at most 1,000.
 */
export async function leftByFailed(
  db: Kysely<Database>,
  action: Brings,
  request: string,
): Promise<readonly LeftBehind[]> {
  return await leftBy(db, action, ['failed', 'aborted']).where('r.request', 'like', `${request}%`).execute()
}

function leftBy(db: Kysely<Database>, action: Brings, states: readonly EndedState[]) {
  return db
    .selectFrom('rollout_hosts as h')
    .innerJoin('rollouts as r', 'r.id', 'h.rollout')
    .select(['h.rollout', 'h.host', 'r.revision', 'r.request', 'r.ended', 'r.state', 'r.reason'])
    .where('r.action', '=', action)
    .where('r.state', 'in', states)
    .where('h.ended_as', '=', 'left')
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom('rollout_hosts as h2')
            .innerJoin('rollouts as r2', 'r2.id', 'h2.rollout')
            .select('h2.host')
            .whereRef('h2.host', '=', 'h.host')
            .whereRef('r2.started', '>', 'r.started')
            .where('r2.action', 'in', SUPERSEDED_BY[action])
            .where(({ or, eb, ref }) =>
              or([
                eb('r2.state', 'in', [...OPEN_STATES, 'succeeded']),
                eb('h2.ended_as', '=', 'done'),
                eb('r2.revision', '=', ref('r.revision')),
              ]),
            ),
        ),
      ),
    )
    .where(({ not, exists, selectFrom }) =>
      not(exists(selectFrom('rollouts as r3').select('r3.id').whereRef('r3.reverts', '=', 'r.id'))),
    )
    .limit(1_000)
}

/** Rollouts to a revision that succeeded and that nobody took back, newest first. */
export async function succeededRollouts(db: Kysely<Database>): Promise<RolloutRow[]> {
  return await db
    .selectFrom('rollouts as r')
    .selectAll('r')
    .where('r.action', '=', 'apply')
    .where('r.state', '=', 'succeeded')
    .where(({ not, exists, selectFrom }) =>
      not(exists(selectFrom('rollouts as r2').select('r2.id').whereRef('r2.reverts', '=', 'r.id'))),
    )
    .orderBy('r.started', 'desc')
    .orderBy('r.id', 'desc')
    .limit(MOST)
    .execute()
}

export interface SucceededUpgrade {
  readonly id: string
  /** The newest to the same revision. */
  readonly last: string
  readonly revision: number
  readonly started: number
}

/** By cluster the first rollout of `upgrade` that succeeded in it to the revision of the newest one: what followed are its stragglers. */
export async function succeededUpgrades(
  db: Kysely<Database>,
): Promise<ReadonlyMap<string, SucceededUpgrade>> {
  const rows = await db
    .selectFrom('rollouts as r')
    .innerJoin('rollout_hosts as h', 'h.rollout', 'r.id')
    .select(({ fn }) => [
      'h.cluster',
      'r.revision',
      // Ids begin with their time.
      fn.min('r.id').as('id'),
      fn.max('r.id').as('last'),
      fn.min('r.started').as('started'),
      fn.max('r.started').as('newest'),
    ])
    .where('r.action', '=', 'upgrade')
    .where('r.state', '=', 'succeeded')
    .where('h.cluster', '!=', '')
    .groupBy(['h.cluster', 'r.revision'])
    .orderBy('newest', 'desc')
    .limit(1_000)
    .execute()
  const found = new Map<string, SucceededUpgrade>()
  for (const { cluster, id, last, revision, started } of rows) {
    if (!found.has(cluster)) found.set(cluster, { id, last, revision, started: Number(started) })
  }
  return found
}

/** Of these hosts those that some rollout named and said something of, as with `leftBehind`. */
export async function namedByRollouts(
  db: Kysely<Database>,
  hosts: readonly { readonly host: string; readonly revision: number }[],
  action: Brings,
): Promise<ReadonlySet<string>> {
  const wanted = new Map(hosts.map(({ host, revision }) => [host, revision]))
  const named = new Set<string>()
  for (let at = 0; at < hosts.length; at += CHUNK) {
    const names = hosts.slice(at, at + CHUNK).map(({ host }) => host)
    const rows = await db
      .selectFrom('rollout_hosts as h')
      .innerJoin('rollouts as r', 'r.id', 'h.rollout')
      .select(['h.host', 'h.ended_as', 'r.state', 'r.revision'])
      .distinct()
      .where('h.host', 'in', names)
      .where('r.action', 'in', SUPERSEDED_BY[action])
      .execute()
    for (const { host, ended_as: ended, state, revision } of rows) {
      const isMute = (state === 'failed' || state === 'aborted') && ended !== 'done'
      if (!isMute || revision === wanted.get(host)) named.add(host)
    }
  }
  return named
}

/** Whether some host of a rollout was moved by it, and stayed well. */
export async function isProved(db: Kysely<Database>, rollout: string): Promise<boolean> {
  const row = await db
    .selectFrom('rollout_hosts')
    .select('host')
    .where('rollout', '=', rollout)
    .where('ended_as', '=', 'done')
    .limit(1)
    .executeTakeFirst()
  return row !== undefined
}

export type UnprovedRollout = Pick<
  RolloutRow,
  'id' | 'action' | 'revision' | 'state' | 'reason' | 'started' | 'ended'
>

/** Rollouts whose requests begin so, which are not over or have failed, newest first: what they bring is not proved by them, or not yet. */
export async function unprovedRollouts(
  db: Kysely<Database>,
  request: string,
): Promise<readonly UnprovedRollout[]> {
  // Of those that failed with the same the last one is told; each open one counts.
  const newest = await db
    .selectFrom('rollouts')
    .select(({ fn }) => fn.max('id').as('id'))
    .where('request', 'like', `${request}%`)
    .where('state', 'in', [...OPEN_STATES, 'failed'])
    .groupBy(['action', 'revision', 'state'])
    .execute()
  const ids = newest.map(({ id }) => id)
  if (ids.length === 0) return []
  return await db
    .selectFrom('rollouts')
    .select(['id', 'action', 'revision', 'state', 'reason', 'started', 'ended'])
    .where('id', 'in', ids)
    .orderBy('id', 'desc')
    .execute()
}

/**
 * Rollouts to a revision that ended since and failed, with hosts that failed and hosts that were moved, which nobody took back, and of
 * whose hosts no rollout that began later has any: what their policy says of that may still have to be begun.
 */
export async function failedRollouts(db: Kysely<Database>, sinceMs: number): Promise<RolloutRow[]> {
  return await db
    .selectFrom('rollouts as r')
    .selectAll('r')
    .where('r.action', '=', 'apply')
    .where('r.state', '=', 'failed')
    .where('r.ended', '>', sinceMs)
    .where(({ not, exists, selectFrom }) =>
      not(exists(selectFrom('rollouts as r2').select('r2.id').whereRef('r2.reverts', '=', 'r.id'))),
    )
    .where(({ exists, selectFrom }) =>
      exists(
        selectFrom('rollout_hosts as h')
          .select('h.host')
          .whereRef('h.rollout', '=', 'r.id')
          .where('h.ended_as', '=', 'failed'),
      ),
    )
    .where(({ exists, selectFrom }) =>
      exists(
        selectFrom('rollout_grants as g')
          .select('g.id')
          .whereRef('g.rollout', '=', 'r.id')
          .where('g.step', '=', 'act')
          .where('g.outcome', '=', 'done'),
      ),
    )
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom('rollout_hosts as h3')
            .innerJoin('rollout_hosts as h4', 'h4.host', 'h3.host')
            .innerJoin('rollouts as r4', 'r4.id', 'h4.rollout')
            .select('h3.host')
            .whereRef('h3.rollout', '=', 'r.id')
            .whereRef('r4.started', '>', 'r.ended')
            .where('r4.action', 'in', ['apply', 'rollback']),
        ),
      ),
    )
    .orderBy('r.ended')
    .limit(MOST)
    .execute()
}
