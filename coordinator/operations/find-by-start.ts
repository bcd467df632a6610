import type { Kysely } from 'kysely'
import { invalid } from '../../shared/rpc/rpc-error.ts'
import { type OperationRow, operationsByPrefix } from '../store/operations.ts'
import type { Database } from '../store/tables.ts'

const LEAST_PREFIX_CHARS = 4

/** The operation whose id begins so; undefined: there is none. Throws where several do. */
export async function findByStart(
  db: Kysely<Database>,
  field: string,
  start: string,
): Promise<OperationRow | undefined> {
  if (start.length < LEAST_PREFIX_CHARS || !/^[a-z0-9-]{1,64}$/.test(start)) return undefined
  const [row, second] = await operationsByPrefix(db, start)
  if (second) throw invalid(`${field}: several operations begin with ${start}; give more of the id`)
  return row
}
