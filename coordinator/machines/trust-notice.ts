import type { MachineEntry } from './entry.ts'

/** What a machine is to be told about trust; undefined: nothing that it does not know. */
export function trustNotice(
  entry: MachineEntry | undefined,
  newest: number,
): { readonly number: bigint; readonly confirmedDigest: string } | undefined {
  if (!entry) return undefined
  const isConfirmed =
    entry.trustFirstUse && entry.trustDigest !== '' && entry.trustConfirmed === entry.trustDigest
  if (!isConfirmed && entry.trustNumber >= newest) return undefined
  return { number: BigInt(newest), confirmedDigest: isConfirmed ? entry.trustDigest : '' }
}
