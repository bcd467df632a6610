import type { Transaction } from 'kysely'
import type { Hello } from '../../shared/gen/muster/v1/agent_pb.ts'
import type { MachineRow } from '../store/machines.ts'
import type { Database } from '../store/tables.ts'

/** A rollout by which a node was given an order. */
export interface RolloutClaim {
  readonly id: string
  readonly action: string
  /** 0: it brings none. */
  readonly revision: number
  /** The host that the machine was in it; empty: it does not say. */
  readonly host: string
}

/** An operation of which a node tells and that is not on record. */
export interface OperationClaim {
  readonly id: string
  /** For people. */
  readonly what: string
  /** When it began, by the node's clock as far as that is not ahead. */
  readonly startedMs: number
}

/** An order of which a node tells and that is not on record, with the rollout that gave it. */
export interface OrderClaim {
  readonly rollout: RolloutClaim
  readonly machine: string
  readonly operation: string
  /** The word of what was ordered. */
  readonly action: string
  readonly startedMs: number
}

/** What nodes say that a store which was set back does not know. */
export interface NodeClaims {
  /**
   * Judges what a machine says at the door, in the transaction that takes it down. What it gives is to be called after the commit and
   * before the machine is let in.
   */
  sawHello(
    tx: Transaction<Database>,
    machine: Pick<MachineRow, 'id' | 'acknowledged'>,
    hello: Hello,
  ): Promise<() => void>
  /** Takes down an order of a rollout, in the transaction that takes down its operation. */
  sawOrder(tx: Transaction<Database>, claim: OrderClaim): Promise<void>
  sawOperation(machine: string, operation: OperationClaim): void
  sawRollout(machine: string, claim: RolloutClaim): void
}
