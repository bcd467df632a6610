import type { KubernetesPart } from './kubernetes-change.ts'
import type { UnitChange } from './unit-changes.ts'
import { runsOtherwise } from './unit-difference.ts'
import { baseOf, settingsOf, type UnitFolder, type UnitFolderReading } from './unit-folder.ts'

/** What a new system makes of the container runtime that runs, which no switch restarts: the operation does, after the switch. */
export interface RuntimeChange {
  /** In the order in which they restart. */
  readonly units: readonly string[]
  /** Files that they read at their start, which are others now. */
  readonly files: readonly string[]
  /** Where the new system's kubelet finds it; undefined: it is not told. */
  readonly endpoint: string | undefined
}

interface Side {
  readonly kubernetes: KubernetesPart
  readonly units: UnitFolderReading
}

/**
 * Compares the container runtimes of two systems; `files` are those of its files that are not the same. undefined: it stays as it is.
 * A unit that only one of the systems has is started or stopped by the switch itself, for which it is new or gone.
 */
export function runtimeChange(
  current: Side | undefined,
  target: Side,
  files: readonly string[],
): RuntimeChange | undefined {
  if (target.kubernetes.kind !== 'facts' || target.units.kind !== 'folder') return undefined
  const { runtime, kubelet } = target.kubernetes.facts
  if (current?.units.kind !== 'folder') return undefined
  const [before, after] = [current.units.folder, target.units.folder]
  const units = (runtime?.units ?? []).filter(unit => isIn(before, unit) && isIn(after, unit))
  const changed = files.length > 0 || units.some(unit => differs(before, after, unit))
  return changed && units.length > 0 ? { units, files, endpoint: kubelet?.runtime } : undefined
}

/** What is said of its units beside what a switch does to the others. */
export function withRuntime(
  changes: readonly UnitChange[],
  runtime: RuntimeChange | undefined,
): readonly UnitChange[] {
  if (!runtime) return changes
  const others = changes.filter(({ unit }) => !runtime.units.includes(unit))
  const own = runtime.units.map(
    (unit): UnitChange => ({ unit, action: 'restart', reason: 'by-the-operation' }),
  )
  return [...others, ...own].sort((a, b) => (a.unit < b.unit ? -1 : 1))
}

const isIn = (folder: UnitFolder, unit: string): boolean =>
  folder.units.get(baseOf(folder, unit))?.kind === 'file'

function differs(before: UnitFolder, after: UnitFolder, unit: string): boolean {
  const old = settingsOf(before, unit, baseOf(before, unit))
  const now = settingsOf(after, unit, baseOf(after, unit))
  return !old || !now || runsOtherwise(old, now)
}
