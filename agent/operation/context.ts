import type { Clock } from '../../shared/clock.ts'
import type {
  ConfirmOperationRequest,
  ConfirmOperationResponse,
  GetRevisionResponse,
} from '../../shared/gen/muster/v1/agent_pb.ts'
import type { Facts } from '../../shared/gen/muster/v1/facts_pb.ts'
import {
  OutcomeClass,
  type OutcomeStatement,
  type Phase,
  type SignedOutcome,
} from '../../shared/gen/muster/v1/operation_pb.ts'
import type { RuleVerdict } from '../../shared/revision/judge-binding.ts'
import type { KnownTrust } from '../../shared/trust/trust-set.ts'
import type { NodeKubernetes } from '../kubernetes/node-kubernetes.ts'
import type { Log } from '../log.ts'
import type { System } from '../system/system.ts'
import type { Units } from '../units/units.ts'

/** What operations need from the connection to the coordinator. */
export interface OperationsLink {
  getRevision(number: bigint, signal: AbortSignal): Promise<GetRevisionResponse>
  downloadTree(number: bigint, offset: bigint, signal: AbortSignal): AsyncIterable<Uint8Array>
  confirmOperation(
    request: Omit<ConfirmOperationRequest, '$typeName' | '$unknown'>,
    signal: AbortSignal,
  ): Promise<Pick<ConfirmOperationResponse, 'confirmed' | 'reason'>>
  connected(): boolean
}

export interface OperationsConfig {
  /** What this node may be ordered to do; without "apply" every order is refused. */
  readonly allow: readonly string[]
  /** "never": build and fetch, but touch nothing of the machine. */
  readonly activation: 'switch' | 'never'
  readonly sourceBuild: { readonly enabled: boolean; readonly leastMemoryBytes: number }
  /** Folder that holds run/current-system and nix/var/nix/profiles; "/" on a real machine. */
  readonly systemRoot: string
  /**
   * Where the systems of an operation are held against the garbage collector: a folder of Nix's own roots, on disk, so that
   * a reboot keeps them.
   */
  readonly rootsFolder: string
  /** What is built must lie below it. */
  readonly storeDir: string
  /** What is simulated here because this is no NixOS machine; told in every outcome. */
  readonly simulates: readonly string[]
  readonly buildDeadlineMs: number
  readonly switchDeadlineMs: number
  /** How long a reboot may take until the machine runs another boot. */
  readonly bootDeadlineMs: number
  /** How long a new Kubernetes may take until it is well. */
  readonly kubernetesDeadlineMs: number
  /** How long a clock that stands before this node's own past is waited for. */
  readonly clockWaitMs: number
  /** How far a coordinator's announced restart may extend the wait for it, once. */
  readonly restartBoundMs: number
  /** Generations of the system profile that are kept beside those in use. */
  readonly keepGenerations: number
  /** How long a download may stand still; a minute where nothing is said. */
  readonly stallMs?: number
  readonly retry: { readonly firstMs: number; readonly mostMs: number }
  /** PATH of the tools, for the units that outlive this process. */
  readonly toolPath: string
}

export interface OperationsDeps {
  readonly stateDir: string
  readonly system: System
  readonly units: Units
  /** Names of the units that have failed, sorted; undefined: cannot be told. Absent: is never asked. */
  readonly failedUnits?: (signal: AbortSignal) => Promise<readonly string[] | undefined>
  /** How often it is looked at what somebody may change by hand; absent: every minute. */
  readonly lookEveryMs?: number
  readonly kubernetes: NodeKubernetes
  readonly link: OperationsLink
  readonly trust: () => KnownTrust | undefined
  /** Takes in a trust set that came with a verified manifest; durable when it returns. */
  readonly adoptTrust: (trust: KnownTrust) => Promise<void>
  readonly machineId: string
  /** How this agent is started: program and first arguments. */
  readonly program: readonly string[]
  /** Random for each start of the agent. */
  readonly instance: () => string
  readonly sign: (statement: Omit<OutcomeStatement, '$typeName' | '$unknown'>) => SignedOutcome
  readonly config: OperationsConfig
  readonly clock: Clock
  /** When this program was built, at the earliest; undefined: not known. */
  readonly built: Date | undefined
  readonly log: Log
  /** Read afresh from the machine. */
  readonly facts: (signal: AbortSignal) => Promise<Facts>
  /** An operation is over, and what was read of the machine before may be so no more. */
  readonly outdateFacts: () => void
  /** Evaluates a group's rule over facts read afresh. */
  readonly rule: (text: string, signal: AbortSignal) => Promise<RuleVerdict>
  /** How far this clock is from the coordinator's; undefined: not measured yet. */
  readonly skewMs: () => number | undefined
}

/** How one phase ended. */
export type PhaseResult<T> =
  | { readonly kind: 'ok'; readonly value: T; readonly detail: string }
  | PhaseFailure
  /** The agent stops; the operation goes on when it starts again. */
  | { readonly kind: 'stopped' }

export interface PhaseFailure {
  readonly kind: 'failed'
  readonly class: OutcomeClass
  /** Class of a refusal; empty for anything else. */
  readonly refusal: string
  readonly reason: string
  readonly exitCode?: number | undefined
}

export const STOPPED = { kind: 'stopped' } as const

export function failed(outcome: OutcomeClass, reason: string, exitCode?: number): PhaseFailure {
  return { kind: 'failed', class: outcome, refusal: '', reason, exitCode }
}

export function refused(refusal: string, reason: string): PhaseFailure {
  return { ...failed(OutcomeClass.REFUSED, reason), refusal }
}

/** What every phase is given. */
export interface PhaseContext {
  readonly deps: OperationsDeps
  readonly operation: string
  readonly phase: Phase
  readonly signal: AbortSignal
  /** Adds a line to the operation's output. */
  readonly say: (line: string) => void
}
