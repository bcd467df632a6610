import type { UnitChanges } from './unit-changes.ts'
import { booleanOf, wordsOf } from './unit-file.ts'
import { baseOf, resolveAlias, settingsOf, type UnitFolder } from './unit-folder.ts'
import { isCompared, type UnitStates } from './unit-states.ts'

/** Targets that can still be active after a resume; the switch does not start them. */
const NEVER = ['suspend.target', 'hibernate.target', 'hybrid-sleep.target']

/** No machine has more; a ring of wants ends here in any case, since no unit is visited twice. */
const MAX_PULLED = 8192

/**
 * What a start of all active targets, and of what the switch starts besides, pulls in: by unit, the one that wants it.
 * A start asks for everything wanted, and for what that wants, whether or not the unit between runs already.
 */
export function pulledUnits(
  after: UnitFolder,
  states: UnitStates,
  changes: UnitChanges,
): ReadonlyMap<string, string> {
  const starts = [...states.values()]
    .filter(state => state.unit.endsWith('.target') && isCompared(state) && isStarted(after, state.unit))
    .map(({ unit }) => unit)
  const todo = [...starts, ...changes.withAction('restart', 'start').map(({ unit }) => unit)]
  const seen = new Set(todo)
  const pulled = new Map<string, string>()
  for (let unit = todo.shift(); unit !== undefined && pulled.size < MAX_PULLED; unit = todo.shift()) {
    for (const name of wantedBy(after, unit)) {
      const wanted = resolveAlias(after, name)
      if (!pulled.has(wanted)) pulled.set(wanted, unit)
      if (seen.has(wanted)) continue
      seen.add(wanted)
      todo.push(wanted)
    }
  }
  return pulled
}

function isStarted(after: UnitFolder, target: string): boolean {
  const settings = settingsOf(after, target, baseOf(after, target))
  return (
    settings !== undefined &&
    !NEVER.includes(target) &&
    !booleanOf(settings, 'Unit', 'RefuseManualStart', false) &&
    !booleanOf(settings, 'Unit', 'X-OnlyManualStart', false)
  )
}

/** What a unit names in its file and what its `.wants` and `.requires` folders name. */
function wantedBy(folder: UnitFolder, unit: string): string[] {
  const base = baseOf(folder, unit)
  const settings = settingsOf(folder, unit, base)
  const named = settings
    ? ['Wants', 'Requires', 'BindsTo', 'Upholds'].flatMap(key => wordsOf(settings, 'Unit', key))
    : []
  const linked = [unit, base].flatMap(name => [
    ...(folder.wants.get(name) ?? []),
    ...(folder.requires.get(name) ?? []),
  ])
  return [...named, ...linked]
}
