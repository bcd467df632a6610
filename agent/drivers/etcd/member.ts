/** A member of the datastore as the datastore itself lists it. */
export interface EtcdMember {
  /** Hexadecimal, as etcd's own tools print it. */
  readonly id: string
  /** Empty: it was added and has not started yet. */
  readonly name: string
  readonly peerUrls: readonly string[]
  readonly clientUrls: readonly string[]
  /** Has no vote, and never counts for a majority. */
  readonly learner: boolean
}

/** A member, and whether it answered when it was asked itself. */
export interface SeenMember extends EtcdMember {
  readonly healthy: boolean
  /** It leads the datastore, as this server's own member says. Where none does, nobody said. */
  readonly leads?: boolean
}

export const hexId = (id: bigint): string => id.toString(16)

export function idOfHex(text: string): bigint | undefined {
  return /^[0-9a-f]{1,16}$/.test(text) ? BigInt(`0x${text}`) : undefined
}
