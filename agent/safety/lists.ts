import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sha256Hex } from '../../shared/ids.ts'
import { templateOf } from '../plan/unit-folder.ts'
import type { System } from '../system/system.ts'
import type { Units } from '../units/units.ts'
import { MOST_SLOT_JSON_BYTES, readSlot, reserveSlot, writeSlot } from './slot.ts'

/** Lists that switch-to-configuration leaves behind when it is cut, and reads at its next run. */
const LISTS = ['start-list', 'restart-list', 'reload-list'] as const
const FOLDER = 'run/nixos'
const MAX_BYTES = 256 * 1024

export interface ListEntry {
  readonly unit: string
  readonly active: boolean | undefined
  /** The system to be switched to has a file for it. */
  readonly inTarget: boolean
}

export interface Lists {
  readonly start: readonly string[]
  readonly restart: readonly string[]
  readonly reload: readonly string[]
}

/**
 * What the lists should be before the next run. A unit in the reload list that systemd has not loaded ends every later run
 * in its middle; one in the others that nobody has gives exit 4. What cannot be asked of is taken for not active: then it is
 * started instead of reloaded, which is harmless for a unit that runs.
 */
export function tidyLists(
  lists: Lists,
  describe: (unit: string) => Pick<ListEntry, 'active' | 'inTarget'>,
): Lists {
  const reloadable = lists.reload.filter(unit => describe(unit).active === true && describe(unit).inTarget)
  const instead = lists.reload.filter(unit => !reloadable.includes(unit) && describe(unit).inTarget)
  const known = (units: readonly string[]) => units.filter(unit => describe(unit).inTarget)
  return {
    start: [...new Set([...known(lists.start), ...instead])],
    restart: known(lists.restart),
    reload: reloadable,
  }
}

/** The lists as they lie there; units without a list are none. */
export async function readLists(system: System, root: string): Promise<Lists> {
  const [start, restart, reload] = await Promise.all(
    LISTS.map(async name => {
      const reading = await system.readFile(join(root, FOLDER, name), MAX_BYTES)
      if (reading.kind !== 'file') return []
      return reading.bytes
        .toString('utf8')
        .split('\n')
        .map(line => line.trim())
        .filter(line => line !== '')
    }),
  )
  return { start: start ?? [], restart: restart ?? [], reload: reload ?? [] }
}

export const isEmpty = ({ start, restart, reload }: Lists) =>
  start.length + restart.length + reload.length === 0

/** Puts the lists right before a run that switches to `target`. Says what was changed, for the log. */
export async function tidyListsFor(
  { system, units, root }: { readonly system: System; readonly units: Units; readonly root: string },
  target: string,
): Promise<string | undefined> {
  const lists = await readLists(system, root)
  if (isEmpty(lists)) return undefined
  const known = new Map<string, Pick<ListEntry, 'active' | 'inTarget'>>()
  for (const unit of new Set([...lists.start, ...lists.restart, ...lists.reload])) {
    known.set(unit, {
      active: await units.isActive(unit),
      inTarget: await hasUnit(system, target, unit),
    })
  }
  const next = tidyLists(lists, unit => known.get(unit) ?? { active: undefined, inTarget: false })
  await writeLists(root, next)
  const before = lists.start.length + lists.restart.length + lists.reload.length
  const after = next.start.length + next.restart.length + next.reload.length
  return `lists of an interrupted switch found: ${before} entries, ${after} kept`
}

/** Whether a system has a file for a unit: its own, or that of its template. */
async function hasUnit(system: System, target: string, unit: string): Promise<boolean> {
  for (const name of [unit, templateOf(unit) ?? unit]) {
    if (name.includes('/')) return false
    const found = await system.exists(join(target, 'etc/systemd/system', name))
    if (found.kind === 'present') return true
  }
  // Mounts and swaps come from fstab, devices and some targets from systemd itself.
  return /\.(mount|automount|swap|device|slice|scope)$/.test(unit) || /\.target$/.test(unit)
}

async function writeLists(root: string, { start, restart, reload }: Lists): Promise<void> {
  for (const [name, units] of [
    ['start-list', start],
    ['restart-list', restart],
    ['reload-list', reload],
  ] as const) {
    const path = join(root, FOLDER, name)
    if (units.length === 0) await rm(path, { force: true })
    else await writeFile(path, units.map(unit => `${unit}\n`).join(''))
  }
}

/** What lay there when a run began: the lists themselves, or, where they are too long for a slot, only their digest. */
interface ListsBefore {
  readonly digest: string
  readonly lists: Lists | undefined
}

/** Writes down what lies there before a run, so that what the run leaves can be told from it. */
export async function recordLists(system: System, root: string, slot: string): Promise<void> {
  const lists = await readLists(system, root)
  const digest = digestOf(lists)
  const fits = JSON.stringify({ digest, lists }).length * 2 < MOST_SLOT_JSON_BYTES
  await reserveSlot(slot) // a round that an older program armed has none
  await writeSlot(slot, fits ? { digest, lists } : { digest })
}

/** A run left lists: there are some, and they are not those that lay there before it. */
export async function hasLeftLists(system: System, root: string, slot: string): Promise<boolean> {
  const lists = await readLists(system, root)
  if (isEmpty(lists)) return false
  return (await readListsBefore(slot))?.digest !== digestOf(lists)
}

/**
 * Takes away the lists of a run that changed nothing: the next one, even to the system that runs, would restart what they
 * name. Says what it did.
 */
export async function takeBackLists(system: System, root: string, slot: string): Promise<string | undefined> {
  if (!(await hasLeftLists(system, root, slot))) return undefined
  const before = await readListsBefore(slot)
  if (!before?.lists) return 'the lists of this run stay: what lay there before it is not known'
  await writeLists(root, before.lists)
  return 'the lists of this run were taken away: it changed nothing'
}

async function readListsBefore(slot: string): Promise<ListsBefore | undefined> {
  const reading = await readSlot(slot)
  if (reading.kind !== 'value') return undefined
  const fields = new Map<string, unknown>(Object.entries(reading.value ?? {}))
  const digest = fields.get('digest')
  if (typeof digest !== 'string') return undefined
  const lists = new Map<string, unknown>(Object.entries(fields.get('lists') ?? {}))
  const [start, restart, reload] = ['start', 'restart', 'reload'].map(name => unitsOf(lists.get(name)))
  return { digest, lists: start && restart && reload ? { start, restart, reload } : undefined }
}

function unitsOf(value: unknown): readonly string[] | undefined {
  return Array.isArray(value) && value.every(unit => typeof unit === 'string') ? value : undefined
}

const digestOf = ({ start, restart, reload }: Lists) => sha256Hex(JSON.stringify([start, restart, reload]))
