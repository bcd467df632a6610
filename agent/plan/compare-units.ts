import { followers } from './followers.ts'
import { pulledUnits } from './pulled-units.ts'
import { type UnitChange, UnitChanges, type UnitComparison } from './unit-changes.ts'
import { unitDifference } from './unit-difference.ts'
import { booleanOf, type UnitSettings, wordsOf } from './unit-file.ts'
import { baseOf, settingsOf, templateOf, type UnitFolder } from './unit-folder.ts'
import { isCompared, isUp, type UnitStates } from './unit-states.ts'

/** Targets whose units get no restart of their own: what wants them is started again anyway. */
const STANDING = ['sysinit.target', 'basic.target', 'multi-user.target', 'graphical.target']

/**
 * What a switch from one set of unit files to another would do to a machine whose units are in these states. It follows
 * the rules of the switch program, without running it, and adds what that does not foretell: what the targets start,
 * and what stops and starts with something else. Units that systemd made itself or that were started by hand with
 * systemd-run are not looked at, as the program does not.
 */
export function compareUnits(before: UnitFolder, after: UnitFolder, states: UnitStates): UnitComparison {
  const changes = new UnitChanges()
  for (const state of states.values()) {
    if (!isCompared(state)) continue
    if (unreadable(before, state.unit) || unreadable(after, state.unit)) changes.addUnknown(state.unit)
    else compareUnit({ before, after, states, changes }, state.unit)
  }
  const pulled = pulledUnits(after, states, changes)
  for (const { unit, reason } of changes.withAction('stop')) {
    // A service that its socket would start, wanted by a target as well.
    if (reason === 'by-socket' && pulled.has(unit))
      changes.replace({ unit, action: 'restart', reason: 'changed' })
  }
  for (const { unit, through } of followers(before, states, changes)) {
    if (pulled.has(unit)) changes.add({ unit, action: 'restart', reason: 'follows', through })
    else changes.add({ unit, action: 'stop', reason: 'follows', through })
  }
  addStarts({ before, after, states, changes }, pulled)
  return changes.result()
}

interface Comparison {
  readonly before: UnitFolder
  readonly after: UnitFolder
  readonly states: UnitStates
  readonly changes: UnitChanges
}

function compareUnit({ before, after, states, changes }: Comparison, unit: string): void {
  const [oldBase, newBase, managed] = basesOf(before, after, unit)
  const old = settingsOf(before, unit, oldBase)
  if (old === undefined) return // masked, or never NixOS's: nothing of it to compare
  const entry = after.units.get(newBase)
  if (managed === 'given-up' || entry === undefined || entry.kind === 'masked') {
    const reason = entry?.kind === 'masked' ? 'masked' : 'removed'
    const stops = booleanOf(old, 'Unit', 'X-StopOnRemoval', true)
    changes.add({ unit, action: stops ? 'stop' : 'keep', reason })
    return
  }
  const now = settingsOf(after, unit, newBase)
  if (now === undefined || unit.endsWith('.target')) return
  switch (unitDifference(old, now)) {
    case 'none':
      return
    case 'reload':
      changes.add({ unit, action: 'reload', reason: 'changed' })
      return
    case 'restart':
      for (const change of modified(unit, newBase, now, after, states)) changes.add(change)
  }
}

/**
 * The files that define a unit before and after. Drop-ins alone can make an instance of a template NixOS's own; when
 * all of them are gone, so is the instance.
 */
function basesOf(
  before: UnitFolder,
  after: UnitFolder,
  unit: string,
): readonly [string, string, 'managed' | 'given-up'] {
  if (templateOf(unit) === undefined || before.units.has(unit) || after.units.has(unit)) {
    return [baseOf(before, unit), baseOf(after, unit), 'managed']
  }
  const had = (before.dropIns.get(unit) ?? []).length > 0
  const has = (after.dropIns.get(unit) ?? []).length > 0
  return [baseOf(before, unit), baseOf(after, unit), had && !has ? 'given-up' : 'managed']
}

/** What is done about a running unit whose file asks for a restart. */
function modified(
  unit: string,
  base: string,
  now: UnitSettings,
  after: UnitFolder,
  states: UnitStates,
): UnitChange[] {
  if (STANDING.includes(unit) || /\.(path|slice)$/.test(unit)) {
    return [{ unit, action: 'keep', reason: 'applied-in-place' }]
  }
  if (unit.endsWith('.mount')) {
    // Nothing can run while these two are away.
    const action = unit === '-.mount' || unit === 'nix.mount' ? 'reload' : 'restart'
    return [{ unit, action, reason: 'changed' }]
  }
  if (unit.endsWith('.socket')) return [{ unit, action: 'keep', reason: 'changed' }]
  if (booleanOf(now, 'Service', 'X-ReloadIfChanged', false)) {
    return [{ unit, action: 'reload', reason: 'changed' }]
  }
  if (
    !booleanOf(now, 'Service', 'X-RestartIfChanged', true) ||
    booleanOf(now, 'Unit', 'RefuseManualStop', false) ||
    booleanOf(now, 'Unit', 'X-OnlyManualStart', false)
  ) {
    return [{ unit, action: 'keep', reason: 'changed' }]
  }
  if (!unit.endsWith('.service') || !booleanOf(now, 'Service', 'X-StopIfChanged', true)) {
    return [{ unit, action: 'restart', reason: 'changed' }]
  }
  return withSockets(unit, base, now, after, states)
}

/** A changed service stops together with its sockets, and where it has some that stay, those alone are started. */
function withSockets(
  unit: string,
  base: string,
  now: UnitSettings,
  after: UnitFolder,
  states: UnitStates,
): UnitChange[] {
  const named = wordsOf(now, 'Service', 'Sockets')
  const sockets = named.length > 0 ? named : [base.replace(/@?\.service$/, '.socket')]
  const changes: UnitChange[] = []
  let bySocket = false
  for (const socket of sockets) {
    const stays = after.units.has(socket)
    const runs = states.has(socket) && states.get(socket)?.active !== 'inactive'
    bySocket ||= stays
    if (runs)
      changes.push({ unit: socket, action: stays ? 'restart' : 'stop', reason: 'changed', through: unit })
  }
  bySocket &&= !booleanOf(now, 'Service', 'X-NotSocketActivated', false)
  const change: UnitChange = bySocket
    ? { unit, action: 'stop', reason: 'by-socket' }
    : { unit, action: 'restart', reason: 'changed' }
  return [change, ...changes]
}

/** What the targets start again when the switch starts them: whatever they want that does not run. */
function addStarts(
  { before, after, states, changes }: Comparison,
  pulled: ReadonlyMap<string, string>,
): void {
  for (const [unit, through] of pulled) {
    const state = states.get(unit)
    if (isUp(state) || state?.active === 'reloading' || changes.get(unit) !== undefined) continue
    if (state?.load === 'masked') continue
    const base = baseOf(after, unit)
    const now = settingsOf(after, unit, base)
    if (now === undefined) {
      if (after.units.get(base)?.kind === 'unknown') changes.addUnknown(unit)
      continue // masked, or what systemd brings from elsewhere
    }
    const old = settingsOf(before, unit, baseOf(before, unit))
    const start = { unit, action: 'start', through } as const
    if (old === undefined) changes.add({ ...start, reason: 'new' })
    else if (isFleeting(now)) changes.add({ ...start, reason: 'runs-again' })
    // Its conditions did not hold, and they are the same as before.
    else if (!state?.conditionFailed || unitDifference(old, now) !== 'none') {
      changes.add({ ...start, reason: 'stopped' })
    }
  }
}

/** A oneshot that is inactive again once it has run. */
function isFleeting(unit: UnitSettings): boolean {
  return (
    unit.get('Service')?.get('Type')?.at(-1) === 'oneshot' &&
    !booleanOf(unit, 'Service', 'RemainAfterExit', false)
  )
}

function unreadable(folder: UnitFolder, unit: string): boolean {
  return folder.units.get(baseOf(folder, unit))?.kind === 'unknown'
}
