import type { Kysely } from 'kysely'
import type { RolloutRow } from './rollouts.ts'
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
}

/**
 * Hosts that the last rollout to a revision which named them left behind, though it succeeded and nobody took it back; at most
 * 1,000.
 */
export async function leftBehind(db: Kysely<Database>): Promise<readonly LeftBehind[]> {
  return await db
    .selectFrom('rollout_hosts as h')
    .innerJoin('rollouts as r', 'r.id', 'h.rollout')
    .select(['h.rollout', 'h.host', 'r.revision', 'r.request', 'r.ended'])
    .where('r.action', '=', 'apply')
    .where('r.state', '=', 'succeeded')
    .where('h.ended_as', '=', 'left')
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom('rollout_hosts as h2')
            .innerJoin('rollouts as r2', 'r2.id', 'h2.rollout')
            .select('h2.host')
            .whereRef('h2.host', '=', 'h.host')
            .whereRef('r2.started', '>', 'r.started')
            .where('r2.action', 'in', ['apply', 'rollback']),
        ),
      ),
    )
    .where(({ not, exists, selectFrom }) =>
      not(exists(selectFrom('rollouts as r3').select('r3.id').whereRef('r3.reverts', '=', 'r.id'))),
    )
    .limit(1_000)
    .execute()
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

/** Of these hosts those that some rollout to a revision named, or one that took another back. */
export async function namedByRollouts(
  db: Kysely<Database>,
  hosts: readonly string[],
): Promise<ReadonlySet<string>> {
  const named = new Set<string>()
  for (let at = 0; at < hosts.length; at += CHUNK) {
    const rows = await db
      .selectFrom('rollout_hosts as h')
      .innerJoin('rollouts as r', 'r.id', 'h.rollout')
      .select('h.host')
      .distinct()
      .where('h.host', 'in', hosts.slice(at, at + CHUNK))
      .where('r.action', 'in', ['apply', 'rollback'])
      .execute()
    for (const { host } of rows) named.add(host)
  }
  return named
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
