/** The addresses to try, in order: where the machine was told to go, then those of its trust set. */
export function fleetAddresses(told: string | undefined, ofTrustSet: readonly string[]): readonly string[] {
  return [...new Set([...(told === undefined ? [] : [told]), ...ofTrustSet])]
}
