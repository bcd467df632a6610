/** What happens to one unit in a switch. */
export interface UnitChange {
  readonly unit: string
  /** `restart` is also a stop before and a start after the activation; `keep` runs on as it is. */
  readonly action: UnitAction
  readonly reason: UnitReason
  /** The unit that brings this about, where it is another. */
  readonly through?: string
}

export type UnitAction = 'stop' | 'start' | 'restart' | 'reload' | 'keep'

export type UnitReason =
  /** Its file differs. */
  | 'changed'
  /** Not in the new system. */
  | 'removed'
  /** A link to /dev/null in the new system. */
  | 'masked'
  /** In the new system only, and wanted by something that runs. */
  | 'new'
  /** Wanted by something that runs, and not running. */
  | 'stopped'
  /** A oneshot that leaves nothing behind: every switch runs it. */
  | 'runs-again'
  /** It requires, or is part of, a unit that stops. */
  | 'follows'
  /** Changed, and its socket starts it when somebody comes. */
  | 'by-socket'
  /** Changed, and systemd applies that without a restart (slices, paths). */
  | 'applied-in-place'
  /** The container runtime, which the operation restarts after the switch, and the switch does not. */
  | 'by-the-operation'

export interface UnitComparison {
  /** Sorted by unit, each at most once. Targets that only start what they want are left out. */
  readonly changes: readonly UnitChange[]
  /** Units whose files could not be compared. */
  readonly unknown: readonly string[]
}

/** Collects what happens to units: for each unit the gravest of what is said of it. */
export class UnitChanges {
  readonly #changes = new Map<string, UnitChange>()
  readonly #unknown = new Set<string>()

  add(change: UnitChange): void {
    const known = this.#changes.get(change.unit)
    if (known === undefined || RANK[change.action] > RANK[known.action])
      this.#changes.set(change.unit, change)
  }

  /** Says of a unit something else than before. */
  replace(change: UnitChange): void {
    this.#changes.set(change.unit, change)
  }

  addUnknown(unit: string): void {
    this.#unknown.add(unit)
  }

  get(unit: string): UnitChange | undefined {
    return this.#changes.get(unit)
  }

  /** The units of which one of these actions is said. */
  withAction(...actions: readonly UnitAction[]): UnitChange[] {
    return [...this.#changes.values()].filter(({ action }) => actions.includes(action))
  }

  result(): UnitComparison {
    return {
      changes: [...this.#changes.values()].sort((a, b) => (a.unit < b.unit ? -1 : 1)),
      unknown: [...this.#unknown].sort(),
    }
  }
}

const RANK: Readonly<Record<UnitAction, number>> = { keep: 0, start: 1, reload: 2, stop: 3, restart: 4 }
