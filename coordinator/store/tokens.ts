import type { Insertable, Kysely, Selectable, Transaction } from 'kysely'
import type { Database, TokensTable } from './tables.ts'

export type TokenRow = Selectable<TokensTable>

export async function insertToken(tx: Transaction<Database>, row: Insertable<TokensTable>): Promise<void> {
  await tx.insertInto('tokens').values(row).execute()
}

export function findToken(db: Kysely<Database>, id: string): Promise<TokenRow | undefined> {
  return db.selectFrom('tokens').selectAll().where('id', '=', id).executeTakeFirst()
}

/** The newest tokens first. */
export function listTokenRows(db: Kysely<Database>, limit: number): Promise<TokenRow[]> {
  return db.selectFrom('tokens').selectAll().orderBy('created', 'desc').orderBy('id').limit(limit).execute()
}

/** Takes one use, if there is one: the statement itself is the check, so a hundred at once cannot both win the last. */
export async function consumeToken(
  tx: Transaction<Database>,
  id: string,
  machine: string,
  nowMs: number,
): Promise<boolean> {
  const { numUpdatedRows } = await tx
    .updateTable('tokens')
    .set(({ ref, eb }) => ({ used: eb(ref('used'), '+', 1) }))
    .where('id', '=', id)
    .where('revoked', '=', 0)
    .where('expires', '>', nowMs)
    .whereRef('used', '<', 'uses')
    .executeTakeFirst()
  if (numUpdatedRows !== 1n) return false
  await tx
    .insertInto('token_uses')
    .values({ token: id, machine, at: nowMs })
    .onConflict(conflict => conflict.columns(['token', 'machine']).doUpdateSet({ at: nowMs }))
    .execute()
  return true
}

export async function revokeTokenRow(tx: Transaction<Database>, id: string): Promise<void> {
  await tx.updateTable('tokens').set({ revoked: 1 }).where('id', '=', id).execute()
}

/** The machines that tokens let in, at most `limit` of them all. */
export async function tokenUses(
  db: Kysely<Database>,
  tokens: readonly string[],
  limit: number,
): Promise<ReadonlyMap<string, readonly string[]>> {
  const uses = new Map<string, string[]>()
  for (let start = 0; start < tokens.length; start += 500) {
    const rows = await db
      .selectFrom('token_uses')
      .select(['token', 'machine'])
      .where('token', 'in', tokens.slice(start, start + 500))
      .orderBy('at')
      .limit(limit)
      .execute()
    for (const { token, machine } of rows) {
      const list = uses.get(token)
      if (list) list.push(machine)
      else uses.set(token, [machine])
    }
  }
  return uses
}

/** Forgets tokens that nobody can use any more, a while after they ended. */
export async function pruneTokens(tx: Transaction<Database>, endedBeforeMs: number): Promise<void> {
  const ended = tx.selectFrom('tokens').select('id').where('expires', '<', endedBeforeMs)
  await tx.deleteFrom('token_uses').where('token', 'in', ended).execute()
  await tx.deleteFrom('tokens').where('expires', '<', endedBeforeMs).execute()
}
