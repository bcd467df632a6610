import { fromBinary, toBinary } from '@bufbuild/protobuf'
import type { Kysely, Transaction } from 'kysely'
import { type Envelope, EnvelopeSchema } from '../../shared/gen/muster/v1/envelope_pb.ts'
import { type KnownTrust, readTrustSet } from '../../shared/trust/trust-set.ts'
import type { Database } from './tables.ts'

/** All trust sets from the first, in order. They are few: one for each change of keys. */
export async function trustChain(db: Kysely<Database>): Promise<Envelope[]> {
  const rows = await db.selectFrom('trust_sets').select('envelope').orderBy('number').execute()
  return rows.map(row => fromBinary(EnvelopeSchema, row.envelope))
}

/** The newest trust set; undefined before the first was given. */
export async function newestTrust(db: Kysely<Database>): Promise<KnownTrust | undefined> {
  return (await trustInForce(db))?.trust
}

/** The newest trust set, and since when it is that. */
export async function trustInForce(
  db: Kysely<Database>,
): Promise<{ readonly trust: KnownTrust; readonly sinceMs: number } | undefined> {
  const row = await db
    .selectFrom('trust_sets')
    .selectAll()
    .orderBy('number', 'desc')
    .limit(1)
    .executeTakeFirst()
  if (!row) return undefined
  const read = readTrustSet(fromBinary(EnvelopeSchema, row.envelope).payload)
  if (read.kind === 'refused' || read.trust.digest !== row.digest) {
    throw new Error(`trust set ${row.number} in the store is damaged: restore a backup`)
  }
  return { trust: read.trust, sinceMs: row.at }
}

/** Adds a set that was checked against the one before it. Two with one number: the second write fails. */
export async function appendTrustSet(
  tx: Transaction<Database>,
  envelope: Envelope,
  trust: KnownTrust,
  now: Date,
): Promise<void> {
  await tx
    .insertInto('trust_sets')
    .values({
      number: trust.number,
      digest: trust.digest,
      envelope: toBinary(EnvelopeSchema, envelope),
      at: now.getTime(),
    })
    .execute()
}
