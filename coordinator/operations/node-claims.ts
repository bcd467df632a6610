/** A rollout by which a node was given an order. */
export interface RolloutClaim {
  readonly id: string
  readonly action: string
  /** 0: it brings none. */
  readonly revision: number
  /** The host that the machine was in it; empty: it does not say. */
  readonly host: string
}

/** What nodes say that a store which was set back does not know. */
export interface NodeClaims {
  sawRevision(machine: string, revision: number): void
  sawOperation(machine: string, operation: string, what: string): void
  sawRollout(machine: string, claim: RolloutClaim): void
}
