/**
 * The machine's service manager, as far as operations need it: what must outlive the agent runs in a unit of its own.
 * INVARIANTS: a name serves one unit at a time, so it is a lock as well; a unit's own state is never a record of how it
 * ended, for a unit that is gone answers like one that succeeded: what it did stands in the marks that it wrote itself.
 */
export interface Units {
  /** "systemd", or "processes" where the machine is simulated. */
  readonly kind: 'systemd' | 'processes'
  /** Starts a command in a unit of its own. */
  start(unit: UnitSpec): Promise<UnitStart>
  /** Has a unit started after a time, by a clock that nobody can set; it can be started earlier with `startLoaded`. */
  startTimer(unit: UnitSpec & { readonly afterMs: number }): Promise<UnitStart>
  /** Takes a timer away, and not what it started. */
  stopTimer(name: string): Promise<void>
  /** Starts what a timer holds. */
  startLoaded(name: string): Promise<UnitStart>
  /** Ends a unit with its whole control group, and waits until nothing of it is left. */
  stop(name: string, deadlineMs: number): Promise<UnitStop>
  state(name: string): Promise<UnitState>
  /** What a unit printed since the cursor that the call before gave; `complete` waits for what is on its way. */
  output(name: string, cursor: string | undefined, complete: boolean): Promise<UnitOutput>
  /** All units that have failed, or died and wait to be started again; undefined: cannot be asked. */
  failed(): Promise<ReadonlySet<string> | undefined>
  /**
   * Services that are started anew again and again, also those that run at this moment, between two deaths; undefined: cannot
   * be asked.
   */
  unsteady(): Promise<ReadonlySet<string> | undefined>
  /** Jobs that wait, such as "k3s.service start"; for telling what a switch hangs on. */
  jobs(): Promise<readonly string[]>
  /** Whether a unit is active now. */
  isActive(name: string): Promise<boolean | undefined>
  /** What the service manager starts as the agent, if that is this process. */
  agentUnit(): Promise<AgentUnit>
  /** Has the agent's own unit started anew, from the file that counts now. Returns at once. */
  restartAgent(): Promise<UnitStart>
  /** Has the machine boot anew. Returns at once. */
  reboot(how?: RebootHow): Promise<UnitStart>
}

/**
 * Absent: as anybody orders it, which a program that holds a lock against it can refuse to root, too. "past-locks": nobody's
 * lock counts. "force": without stopping what runs.
 */
export type RebootHow = 'past-locks' | 'force'

export type AgentUnit =
  /** `files`: the unit's file and its drop-ins. */
  | { readonly kind: 'unit'; readonly program: string; readonly files: readonly string[] }
  /** This process is not the main one of the agent's unit. */
  | { readonly kind: 'not-ours' }
  | { readonly kind: 'unknown'; readonly reason: string }

export interface UnitSpec {
  /** Without suffix, such as "muster-switch-42". */
  readonly name: string
  readonly description: string
  readonly command: readonly string[]
  /** Run before it within the unit; when it fails, the command is not run. */
  readonly before?: readonly string[] | undefined
  /**
   * Run after it within the unit, whatever happened, with SERVICE_RESULT, EXIT_CODE and EXIT_STATUS in its environment as
   * systemd.exec(5) has them.
   */
  readonly after?: readonly string[] | undefined
  readonly env?: Readonly<Record<string, string>> | undefined
  /** Started again when something kills it, or when it ends with this code; what ends by itself otherwise has ended. */
  readonly restarts?: { readonly alsoOnExitCode: number } | undefined
}

export type UnitStart =
  | { readonly kind: 'started' }
  /** Another unit has the name. */
  | { readonly kind: 'taken' }
  | { readonly kind: 'failed'; readonly reason: string }

export type UnitStop =
  | { readonly kind: 'gone' }
  /** Something of it was still there at the deadline. */
  | { readonly kind: 'alive'; readonly reason: string }

export type UnitState =
  /** Starting, running or stopping; or given up by the service manager while something of it is still there. */
  | { readonly kind: 'running' }
  | { readonly kind: 'gone' }
  | { readonly kind: 'unknown'; readonly reason: string }

export interface UnitLine {
  readonly text: string
  /** The name under which the program logged, such as "nixos". */
  readonly identifier: string
}

export interface UnitOutput {
  readonly lines: readonly UnitLine[]
  readonly cursor: string | undefined
}
