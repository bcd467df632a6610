import type { Assignment, Order } from '../../../shared/gen/muster/v1/agent_pb.ts'
import type { Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import type { KnownMemory } from '../../../shared/revision/judge-revision.ts'
import type { OperationsDeps, PhaseContext, PhaseResult } from '../context.ts'
import type { OperationState } from '../fold.ts'
import type { Journal } from '../journal.ts'
import type { NewRecord } from '../journal-record.ts'
import type { Conclusion, Observed } from '../next-step.ts'
import type { NodeMemory } from '../node-memory.ts'

export interface RunInput {
  readonly order: Order
  /** As the coordinator last told it; asked once the revision is here, for after a start it is told only then. */
  readonly assignment: () => Assignment
  /** What the journal holds of all operations now, in the order they were accepted. */
  readonly states: () => ReadonlyMap<string, OperationState>
  readonly remembered: (memory: KnownMemory) => void
  readonly nodeMemory: () => NodeMemory
  /** Durable when it returns. */
  readonly remember: (memory: NodeMemory) => Promise<void>
  readonly signal: AbortSignal
  readonly say: (line: string) => void
  /** No more output comes. */
  readonly lastLine: () => void
  /** Tells whoever reports that the journal grew. */
  readonly changed: () => void
  /** Settles when root on this machine confirms the operation in the coordinator's place. */
  readonly confirmedByHand: (signal: AbortSignal) => Promise<void>
}

type OperationRecord = NewRecord extends infer R
  ? R extends NewRecord
    ? Omit<R, 'operation'>
    : never
  : never

/** What one step of an operation works with. */
export interface StepContext {
  readonly deps: OperationsDeps
  readonly journal: Journal
  readonly input: RunInput
  readonly operation: string
  readonly state: OperationState
  readonly seen: Observed
  /** Writes a record of this operation; durable when it returns. */
  readonly record: (record: OperationRecord) => Promise<void>
  /** Runs a phase with its start on disk before and its end after it. */
  readonly phase: <T>(
    which: Phase,
    work: (context: PhaseContext) => Promise<PhaseResult<T>>,
  ) => Promise<PhaseResult<T>>
}

/** What a step leads to. What was learnt is on disk; the next step is decided afresh. */
export type StepEnd =
  | { readonly kind: 'again' }
  | { readonly kind: 'stopped' }
  | { readonly kind: 'conclude'; readonly conclusion: Conclusion }

export const AGAIN = { kind: 'again' } as const
export const STOP = { kind: 'stopped' } as const
