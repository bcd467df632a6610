import type { UnitSettings } from './unit-file.ts'

/** What a difference between two versions of a unit asks for. */
export type UnitDifference = 'none' | 'reload' | 'restart'

/** Settings of `[Unit]` that do not concern what runs. */
const HARMLESS = new Set([
  'Description',
  'Documentation',
  'OnFailure',
  'OnSuccess',
  'OnFailureJobMode',
  'IgnoreOnIsolate',
  'StopWhenUnneeded',
  'RefuseManualStart',
  'RefuseManualStop',
  'AllowIsolate',
  'CollectMode',
  'SourcePath',
])

/**
 * Compares two versions of a unit as the switch program does: everything asks for a restart, but what changes nothing
 * (descriptions, a reload command taken away) and what a reload applies (`X-Reload-Triggers`, `ExecReload`, the options
 * of a mount).
 */
export function unitDifference(before: UnitSettings, after: UnitSettings): UnitDifference {
  let worst: UnitDifference = 'none'
  for (const section of new Set([...before.keys(), ...after.keys()])) {
    const [old, now] = [before.get(section), after.get(section)]
    for (const key of new Set([...(old?.keys() ?? []), ...(now?.keys() ?? [])])) {
      const [a, b] = [old?.get(key), now?.get(key)]
      if (a !== undefined && b !== undefined && sameValues(a, b)) continue
      const needs = neededFor(section, key, a !== undefined, b !== undefined)
      if (needs === 'restart') return needs
      if (needs === 'reload') worst = needs
    }
  }
  return worst
}

/** Settings for the switch program alone: whatever they say, what runs is the same. */
const OF_THE_SWITCH = new Set([
  'X-RestartIfChanged',
  'X-StopIfChanged',
  'X-StopOnRemoval',
  'X-ReloadIfChanged',
  'X-OnlyManualStart',
])

/** Whether what runs by one version of a unit is other than what would by the other, for who restarts it in the switch's place. */
export function runsOtherwise(before: UnitSettings, after: UnitSettings): boolean {
  const own = (settings: UnitSettings): UnitSettings =>
    new Map(
      [...settings].map(([section, keys]) => [
        section,
        new Map([...keys].filter(([key]) => !OF_THE_SWITCH.has(key))),
      ]),
    )
  return unitDifference(own(before), own(after)) !== 'none'
}

function neededFor(section: string, key: string, before: boolean, after: boolean): UnitDifference {
  if (section === 'Unit' && HARMLESS.has(key)) return 'none'
  const byReload =
    (section === 'Unit' && key === 'X-Reload-Triggers') || (section === 'Service' && key === 'ExecReload')
  if (byReload) return after ? 'reload' : 'none'
  if (section === 'Mount' && key === 'Options' && before && after) return 'reload'
  return 'restart'
}

function sameValues(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((value, index) => value === b[index])
}
