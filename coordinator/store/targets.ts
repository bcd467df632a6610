import type { Kysely, Transaction } from 'kysely'
import type { EncodedTarget } from '../../shared/revision/read-target.ts'
import type { Database } from './tables.ts'

/** Rows that go into one statement; both stores bound the parameters of a statement. */
const ROWS_PER_INSERT = 1000

/** A serialised target and whose it is: exactly one of host and group is not empty. */
export interface TargetRow {
  readonly host: string
  readonly group: string
  readonly digest: string
  readonly target: Buffer
}

/** Takes down the targets of a revision; those that an earlier revision had are shared with it. */
export async function insertTargets(
  tx: Transaction<Database>,
  revision: number,
  targets: readonly EncodedTarget[],
): Promise<void> {
  for (let at = 0; at < targets.length; at += ROWS_PER_INSERT) {
    const some = targets.slice(at, at + ROWS_PER_INSERT)
    await tx
      .insertInto('targets')
      .values(some.map(({ digest, bytes }) => ({ digest, target: bytes })))
      .onConflict(conflict => conflict.column('digest').doNothing())
      .execute()
    await tx
      .insertInto('revision_targets')
      .values(
        some.map(({ target, digest }) => ({
          revision,
          host: target.host,
          group_name: target.group,
          digest,
        })),
      )
      .execute()
  }
}

/** All targets of a revision, ordered by name. */
export async function targetsOfRevision(db: Kysely<Database>, revision: number): Promise<TargetRow[]> {
  const rows = await db
    .selectFrom('revision_targets')
    .innerJoin('targets', 'targets.digest', 'revision_targets.digest')
    .select([
      'revision_targets.host',
      'revision_targets.group_name',
      'revision_targets.digest',
      'targets.target',
    ])
    .where('revision', '=', revision)
    .orderBy('revision_targets.host')
    .orderBy('revision_targets.group_name')
    .execute()
  return rows.map(({ host, group_name, digest, target }) => ({ host, group: group_name, digest, target }))
}

/** The target of a host, or of a group where `group` is not empty. */
export async function findTargetBytes(
  db: Kysely<Database>,
  revision: number,
  host: string,
  group: string,
): Promise<Buffer | undefined> {
  const row = await db
    .selectFrom('revision_targets')
    .innerJoin('targets', 'targets.digest', 'revision_targets.digest')
    .select('targets.target')
    .where('revision', '=', revision)
    .where('revision_targets.host', '=', group === '' ? host : '')
    .where('group_name', '=', group)
    .executeTakeFirst()
  return row?.target
}
