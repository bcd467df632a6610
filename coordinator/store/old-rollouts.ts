import type { Kysely, Transaction } from 'kysely'
import { readMeta, writeMeta } from './meta.ts'
import { ENDED_STATES, OPEN_STATES, type RolloutRow } from './rollouts.ts'
import type { Database } from './tables.ts'
import { succeededUpgrades } from './unfinished-rollouts.ts'

/** An ended rollout that may be old enough to go. */
export type OldRollout = Pick<
  RolloutRow,
  'id' | 'action' | 'revision' | 'request' | 'state' | 'reverts' | 'started'
>

/** What of the past is asked for as long as nothing followed it, whoever was named since. */
export interface RolloutsInUse {
  /** Such as the last one for all hosts, with which newcomers catch up. */
  readonly ids: ReadonlySet<string>
  /** What newcomers get: who failed with it is not tried again. */
  readonly revisions: ReadonlySet<number>
  /** What requests of rollouts begin with that the coordinator began for those that were behind. */
  readonly catchUp: string
}

/** A page of ended rollouts, oldest first. */
export async function pageEndedRollouts(
  db: Kysely<Database>,
  input: {
    readonly endedBeforeMs: number
    readonly after: Pick<OldRollout, 'id' | 'started'> | undefined
    readonly limit: number
  },
): Promise<readonly OldRollout[]> {
  const { after } = input
  let query = db
    .selectFrom('rollouts')
    .select(['id', 'action', 'revision', 'request', 'state', 'reverts', 'started'])
    .where('state', 'in', [...ENDED_STATES])
    .where('ended', '<', input.endedBeforeMs)
  if (after) {
    query = query.where(({ or, and, eb }) =>
      or([
        eb('started', '>', after.started),
        and([eb('started', '=', after.started), eb('id', '>', after.id)]),
      ]),
    )
  }
  return await query.orderBy('started').orderBy('id').limit(input.limit).execute()
}

/** By cluster the upgrades by which newcomers catch up: the first and the newest to the revision of the newest. */
export async function upgradesInUse(
  db: Kysely<Database>,
): Promise<readonly { readonly ids: readonly string[]; readonly revision: number }[]> {
  const upgrades = await succeededUpgrades(db)
  return [...upgrades.values()].map(({ id, last, revision }) => ({ ids: [id, last], revision }))
}

/**
 * Deletes a rollout with its hosts, grants and overrides, as it was begun: in one transaction. Not while something refers to it, nor while
 * what it says of one of its hosts is the last word. Says whether it went.
 */
export async function deleteSpentRollout(
  tx: Transaction<Database>,
  old: OldRollout,
  inUse: RolloutsInUse,
  endedBeforeMs: number,
): Promise<boolean> {
  if (inUse.ids.has(old.id)) return false
  if (await isReferred(tx, old)) return false
  if (await isHeldAgainst(tx, old, inUse)) return false
  if (await speaksOfSome(tx, old, inUse, endedBeforeMs)) return false
  for (const table of ['rollout_grants', 'rollout_overrides', 'rollout_hosts'] as const) {
    await tx.deleteFrom(table).where('rollout', '=', old.id).execute()
  }
  await tx.deleteFrom('rollouts').where('id', '=', old.id).execute()
  await notePrunedRollout(tx, old.id)
  return true
}

/** Something that is not over names it, or it is what keeps another one that is still there taken back. */
async function isReferred(tx: Transaction<Database>, { id, reverts }: OldRollout): Promise<boolean> {
  const byOpen = await tx
    .selectFrom('rollouts')
    .select('id')
    .where('state', 'in', [...OPEN_STATES])
    .where(({ or, eb }) => or([eb('reverts', '=', id), eb('after', 'like', `%"${id}"%`)]))
    .limit(1)
    .executeTakeFirst()
  if (byOpen) return true
  const takenBack = await tx.selectFrom('rollouts').select('id').where('id', '=', reverts).executeTakeFirst()
  if (takenBack) return true
  // A cordon that stands, an act or an order under way is known by its grant.
  const byGrant = await tx
    .selectFrom('rollout_grants as g')
    .select('g.id')
    .where('g.rollout', '=', id)
    .where('g.operation', '!=', '')
    .where(({ or, exists, selectFrom }) =>
      or([
        exists(
          selectFrom('operations as o')
            .select('o.id')
            .whereRef('o.id', '=', 'g.operation')
            .where('o.outcome_class', '=', 0),
        ),
        exists(
          selectFrom('cluster_acts as a')
            .select('a.id')
            .whereRef('a.id', '=', 'g.operation')
            .where('a.ended', 'is', null),
        ),
        exists(selectFrom('cluster_cordons as c').select('c.host').whereRef('c.act', '=', 'g.operation')),
      ]),
    )
    .limit(1)
    .executeTakeFirst()
  return byGrant !== undefined
}

/** Those that were behind failed with it, and it is the last of these: nobody else gets the same by itself. */
async function isHeldAgainst(
  tx: Transaction<Database>,
  { id, action, revision, request, state }: OldRollout,
  { revisions, catchUp }: RolloutsInUse,
): Promise<boolean> {
  if (state !== 'failed' || !request.startsWith(catchUp)) return false
  const later = await tx
    .selectFrom('rollouts')
    .select('id')
    .where('action', '=', action)
    .where('revision', '=', revision)
    .where('state', '=', 'failed')
    .where('request', 'like', `${catchUp}%`)
    .where('id', '>', id)
    .limit(1)
    .executeTakeFirst()
  if (later) return false
  if (revisions.has(revision)) return true
  const source = await tx
    .selectFrom('rollouts')
    .select('id')
    .where('action', '=', action)
    .where('revision', '=', revision)
    .where('state', '=', 'succeeded')
    .limit(1)
    .executeTakeFirst()
  return source !== undefined
}

/** Rollouts that say something anew of what one of this action said. */
function familyOf(action: string): { readonly all: readonly string[]; readonly brings: string } {
  return action === 'apply' || action === 'rollback'
    ? { all: ['apply', 'rollback'], brings: 'apply' }
    : { all: [action], brings: action }
}

/**
 * Whether it is the last word of some host. It is not where a later rollout, which is old as well, brought the host something or
 * succeeded with it and was not taken back: nobody asks behind that one. Nor, where it failed and did not move the host, once another has
 * named the host since and what it failed with is nothing that the host could still get.
 */
async function speaksOfSome(
  tx: Transaction<Database>,
  old: OldRollout,
  { revisions, catchUp }: RolloutsInUse,
  endedBeforeMs: number,
): Promise<boolean> {
  const { id, action, revision, started, state, request } = old
  const { all, brings } = familyOf(action)
  const failed = state !== 'succeeded'
  const found = await tx
    .selectFrom('rollout_hosts as h')
    .select('h.host')
    .where('h.rollout', '=', id)
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom('rollout_hosts as h2')
            .innerJoin('rollouts as r2', 'r2.id', 'h2.rollout')
            .select('h2.host')
            .whereRef('h2.host', '=', 'h.host')
            .where('r2.started', '>', started)
            .where('r2.action', '=', brings)
            .where('r2.ended', '<', endedBeforeMs)
            .where(({ or, eb }) => or([eb('r2.state', '=', 'succeeded'), eb('h2.ended_as', '=', 'done')]))
            .where('r2.id', 'not in', eb => eb.selectFrom('rollouts as r3').select('r3.reverts'))
            .where(inner =>
              inner.not(
                inner.exists(
                  inner
                    .selectFrom('rollout_hosts as h4')
                    .innerJoin('rollouts as r4', 'r4.id', 'h4.rollout')
                    .select('h4.host')
                    .whereRef('h4.host', '=', 'h2.host')
                    .whereRef('r4.started', '>=', 'r2.started')
                    .where('r4.action', '=', 'rollback')
                    .where('r4.reverts', '=', ''),
                ),
              ),
            ),
        ),
      ),
    )
    .where(({ or, not, and, eb, exists, selectFrom, val }) => {
      if (!failed) return eb(val(1), '=', 1)
      const later = selectFrom('rollout_hosts as h5')
        .innerJoin('rollouts as r5', 'r5.id', 'h5.rollout')
        .select('h5.host')
        .whereRef('h5.host', '=', 'h.host')
        .where('r5.started', '>', started)
        .where('r5.action', 'in', [...all])
      const mayStillGet = exists(
        selectFrom('rollout_hosts as h6')
          .innerJoin('rollouts as r6', 'r6.id', 'h6.rollout')
          .select('h6.host')
          .whereRef('h6.host', '=', 'h.host')
          .where('r6.action', '=', action)
          .where('r6.revision', '=', revision)
          .where('r6.state', '=', 'succeeded'),
      )
      const isShown = request.startsWith(catchUp.trim()) ? eb('h.ended_as', '=', 'left') : eb(val(1), '=', 0)
      const otherwise = revisions.has(revision) ? eb(val(1), '=', 1) : or([mayStillGet, isShown])
      return or([
        eb('h.ended_as', '=', 'done'),
        not(exists(later)),
        and([not(exists(later.where('r5.revision', '=', revision))), otherwise]),
      ])
    })
    .limit(1)
    .executeTakeFirst()
  return found !== undefined
}

const PRUNED_KEY = 'rollouts_pruned_before'

/** When the rollout began that an id names, which begins with that; undefined: none of ours does so. */
function startOf(id: string): number | undefined {
  const time = /^([0-9a-z]{9,12})-/.exec(id)?.[1]
  return time === undefined ? undefined : Number.parseInt(time, 36)
}

async function notePrunedRollout(tx: Transaction<Database>, id: string): Promise<void> {
  const startMs = startOf(id)
  const before = Number((await readMeta(tx, PRUNED_KEY)) ?? -1)
  if (startMs !== undefined && startMs > before) await writeMeta(tx, PRUNED_KEY, String(startMs))
}

/** Whether a rollout that is not on record may have been deleted for its age, so that nothing is wrong with the store. */
export async function mayBePruned(db: Kysely<Database>, id: string): Promise<boolean> {
  const startMs = startOf(id)
  return startMs !== undefined && startMs <= Number((await readMeta(db, PRUNED_KEY)) ?? -1)
}
