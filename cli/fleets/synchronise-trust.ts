import type { Envelope } from '../../shared/gen/muster/v1/envelope_pb.ts'
import { type KnownTrust, readTrustSet } from '../../shared/trust/trust-set.ts'
import { walkTrust } from '../../shared/trust/walk-trust.ts'
import type { Connection } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import { type FleetKnowledge, saveTrust } from './fleet-folder.ts'

/**
 * Takes over trust sets that others added meanwhile, as a machine would: only what the keys known here lead to. What the
 * coordinator says is never believed on its own word.
 */
export async function synchroniseTrust(
  { client, call, place }: Connection,
  known: FleetKnowledge,
): Promise<FleetKnowledge> {
  const { trust: offered } = await client.getFleetTrust({}, call)
  const chain = offered?.envelopes ?? []
  if (chain.length === 0) {
    throw new CliError(
      'refused',
      `the coordinator at ${place} has no trust set yet: give it this one with \`muster trust set ${known.folder}/trust.bin\``,
    )
  }
  const walk = walkTrust({ kind: 'current', trust: known.trust }, chain)
  if (walk.kind === 'refused') {
    throw new CliError(
      'refused',
      `the coordinator at ${place} offers trust that does not follow from what is known here: ${walk.reason}`,
    )
  }
  const newest = readTrustSet(chain.at(-1)?.payload ?? new Uint8Array())
  if (newest.kind === 'ok' && newest.trust.number < known.trust.number) {
    throw new CliError(
      'refused',
      `the coordinator at ${place} has trust set ${newest.trust.number}, here ${known.trust.number} is known: ` +
        `push it with \`muster trust set ${known.folder}/trust.bin\``,
    )
  }
  if (!walk.changed) return known
  const numbers = new Set(chainNumbers(known.chain))
  const more = chain.filter(envelope => !numbers.has(numberOf(envelope)))
  const whole = [...known.chain, ...more]
  await saveTrust(known.folder, whole)
  return { ...known, chain: whole, trust: walk.trust }
}

/** All sets of a chain, oldest first; those that cannot be read are left out. */
export function setsOf(chain: readonly Envelope[]): KnownTrust[] {
  return chain.flatMap(({ payload }) => {
    const read = readTrustSet(payload)
    return read.kind === 'ok' ? [read.trust] : []
  })
}

function chainNumbers(chain: readonly Envelope[]): number[] {
  return chain.map(numberOf)
}

function numberOf(envelope: Envelope): number {
  const read = readTrustSet(envelope.payload)
  return read.kind === 'ok' ? read.trust.number : Number.NaN
}
