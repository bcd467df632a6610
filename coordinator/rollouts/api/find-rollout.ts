import type { Kysely } from 'kysely'
import { invalid, notFound } from '../../../shared/rpc/rpc-error.ts'
import { findRollout, type RolloutRow, rolloutsByPrefix } from '../../store/rollouts.ts'
import type { Database } from '../../store/tables.ts'

const LEAST_PREFIX_CHARS = 4

/** A rollout by its id or an unambiguous start of it. Throws with what is wrong with the reference. */
export async function requireRollout(db: Kysely<Database>, ref: string, field = 'id'): Promise<RolloutRow> {
  if (ref === '') throw invalid(`${field}: must name a rollout`)
  if (!/^[a-z0-9-]{1,64}$/.test(ref)) throw invalid(`${field}: is no id of a rollout`)
  const exact = await findRollout(db, ref)
  if (exact) return exact
  const found = ref.length < LEAST_PREFIX_CHARS ? [] : await rolloutsByPrefix(db, ref)
  const [row, second] = found
  if (second) throw invalid(`${field}: several rollouts begin with ${ref}; give more of the id`)
  if (row) return row
  throw notFound(`${field}: there is no rollout ${ref}; \`muster rollout list\` lists them`)
}
