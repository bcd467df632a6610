import type { Kysely, Transaction } from 'kysely'
import { readTexts } from './json.ts'
import type { Database } from './tables.ts'

/** An order that was given under an id of its sender's choice. */
export interface KnownRequest {
  /** SHA-256 of what was asked for. */
  readonly intent: string
  readonly operations: readonly string[]
}

export async function findRequest(db: Kysely<Database>, id: string): Promise<KnownRequest | undefined> {
  const row = await db.selectFrom('requests').selectAll().where('id', '=', id).executeTakeFirst()
  return row && { intent: row.intent, operations: readTexts(row.operations) }
}

export async function insertRequest(
  tx: Transaction<Database>,
  id: string,
  request: KnownRequest,
  now: Date,
): Promise<void> {
  await tx
    .insertInto('requests')
    .values({
      id,
      intent: request.intent,
      operations: JSON.stringify(request.operations),
      at: now.getTime(),
    })
    .execute()
}
