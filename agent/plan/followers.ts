import type { UnitChanges } from './unit-changes.ts'
import { wordsOf } from './unit-file.ts'
import { baseOf, resolveAlias, settingsOf, type UnitFolder } from './unit-folder.ts'
import { isUp, type UnitStates } from './unit-states.ts'

/** A unit that stops because another does. */
export interface Follower {
  readonly unit: string
  readonly through: string
}

/**
 * Running units that stop with one that stops, since they require it or are part of it, and the ones that stop with
 * those. They are in no list of the switch program. By the old files: systemd reads the new ones only later.
 */
export function followers(before: UnitFolder, states: UnitStates, changes: UnitChanges): Follower[] {
  const dependents = dependentsByUnit(before, states)
  const todo = changes.withAction('stop', 'restart').map(({ unit }) => unit)
  const seen = new Set(todo)
  const found: Follower[] = []
  for (let through = todo.shift(); through !== undefined; through = todo.shift()) {
    for (const unit of dependents.get(through) ?? []) {
      if (seen.has(unit)) continue
      seen.add(unit)
      todo.push(unit)
      found.push({ unit, through })
    }
  }
  return found
}

function dependentsByUnit(before: UnitFolder, states: UnitStates): ReadonlyMap<string, readonly string[]> {
  const dependents = new Map<string, string[]>()
  for (const state of states.values()) {
    // A target that stops with something is started again with all the others.
    if (!isUp(state) || state.unit.endsWith('.target')) continue
    const base = baseOf(before, state.unit)
    const settings = settingsOf(before, state.unit, base)
    if (settings === undefined) continue
    const named = ['Requires', 'BindsTo', 'PartOf'].flatMap(key => wordsOf(settings, 'Unit', key))
    const linked = [state.unit, base].flatMap(name => before.requires.get(name) ?? [])
    for (const name of [...named, ...linked]) {
      const on = resolveAlias(before, name)
      dependents.set(on, [...(dependents.get(on) ?? []), state.unit])
    }
  }
  return dependents
}
