import type { Kysely } from 'kysely'
import { bindingOfHost } from '../store/bindings.ts'
import { readLabels } from '../store/json.ts'
import type { Database } from '../store/tables.ts'
import { findToken } from '../store/tokens.ts'
import type { ShownToken } from './admission.ts'
import { isSecret } from './token-secret.ts'

/** What the store knows of a token that a machine shows. */
export async function readShownToken(
  db: Kysely<Database>,
  shown: { readonly tokenId: string; readonly tokenSecret: string },
  machineId: string,
): Promise<ShownToken> {
  if (shown.tokenId === '') return { kind: 'none' }
  const row = await findToken(db, shown.tokenId)
  if (!isSecret(shown.tokenSecret, row?.secret_hash) || !row) return { kind: 'unknown' }
  const binding = row.host === '' ? undefined : await bindingOfHost(db, row.host)
  return {
    kind: 'known',
    id: row.id,
    createdMs: row.created,
    expiresMs: row.expires,
    uses: row.uses,
    used: row.used,
    revoked: row.revoked === 1,
    labels: readLabels(row.labels),
    host: row.host,
    hostTakenBy: binding && binding.machine !== machineId ? binding.machine : undefined,
  }
}
