import type { KnownTrust } from '../../shared/trust/trust-set.ts'

/**
 * Number of the oldest trust set from which on every set lists an authority: whoever has it or a later one knows that authority.
 * undefined: the newest does not list it, or lists none, which leaves machines with what they were given.
 */
export function firstSetListing(
  sets: readonly Pick<KnownTrust, 'number' | 'set'>[],
  pin: string,
): number | undefined {
  let first: number | undefined
  for (const { number, set } of sets.toReversed()) {
    if (!set.caPins.includes(pin)) break
    first = number
  }
  return first
}
