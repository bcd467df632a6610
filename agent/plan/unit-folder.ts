import { dirname, resolve } from 'node:path'
import type { System } from '../system/system.ts'
import { parseUnitFile, type UnitSettings } from './unit-file.ts'

/** One name in a folder of units. */
export type UnitEntry =
  | { readonly kind: 'file'; readonly text: string }
  /** Leads to /dev/null. */
  | { readonly kind: 'masked' }
  /** A link to another name in the same folder. */
  | { readonly kind: 'alias'; readonly of: string }
  | { readonly kind: 'unknown'; readonly why: string }

/** All units of one system: what its `etc/systemd/system` holds. */
export interface UnitFolder {
  readonly units: ReadonlyMap<string, UnitEntry>
  /** By unit, the texts of its drop-ins in their order; masked ones are left out. */
  readonly dropIns: ReadonlyMap<string, readonly string[]>
  /** By unit, what its `.wants` and `.requires` folders name. */
  readonly wants: ReadonlyMap<string, readonly string[]>
  readonly requires: ReadonlyMap<string, readonly string[]>
}

export type UnitFolderReading =
  | { readonly kind: 'folder'; readonly folder: UnitFolder }
  | { readonly kind: 'missing' }
  | { readonly kind: 'unknown'; readonly why: string }

const MAX_NAMES = 8192
const MAX_UNIT_BYTES = 256 * 1024
const MAX_LINKS = 8
const UNIT = /\.(service|socket|target|timer|mount|automount|swap|path|slice|scope|device)$/

/** Reads all units of a toplevel. A single file that cannot be read is told as such; a folder that cannot is as a whole. */
export async function readUnitFolder(system: System, path: string): Promise<UnitFolderReading> {
  const listing = await system.listDir(path, MAX_NAMES)
  if (listing.kind === 'missing') return listing
  if (listing.kind === 'unreadable') return { kind: 'unknown', why: `${path}: ${listing.code}` }
  if (listing.truncated) return { kind: 'unknown', why: `${path}: more than ${MAX_NAMES} names` }
  const units = new Map<string, UnitEntry>()
  const dropIns = new Map<string, readonly string[]>()
  const wants = new Map<string, readonly string[]>()
  const requires = new Map<string, readonly string[]>()
  for (const name of listing.names) {
    const of = /^(.+)\.(d|wants|requires)$/.exec(name)
    if (of?.[1] !== undefined && UNIT.test(of[1])) {
      const inner = await system.listDir(`${path}/${name}`, MAX_NAMES)
      if (inner.kind !== 'dir' || inner.truncated) {
        const why = inner.kind === 'unreadable' ? inner.code : 'not a folder of a few names'
        return { kind: 'unknown', why: `${path}/${name}: ${why}` }
      }
      if (of[2] === 'wants') wants.set(of[1], inner.names)
      else if (of[2] === 'requires') requires.set(of[1], inner.names)
      else {
        const files = inner.names.filter(file => file.endsWith('.conf'))
        const entries = await Promise.all(files.map(file => readEntry(system, `${path}/${name}/${file}`)))
        const unreadable = entries.find(entry => entry?.kind === 'unknown')
        if (unreadable?.kind === 'unknown') return unreadable
        dropIns.set(
          of[1],
          entries.flatMap(entry => (entry?.kind === 'file' ? [entry.text] : [])),
        )
      }
    } else if (UNIT.test(name)) {
      const entry = await readEntry(system, `${path}/${name}`)
      if (entry !== undefined) units.set(name, entry)
    }
  }
  return { kind: 'folder', folder: { units, dropIns, wants, requires } }
}

/** A dangling link is as good as nothing, and so undefined. */
async function readEntry(system: System, path: string): Promise<UnitEntry | undefined> {
  const link = await system.readLink(path)
  if (link.kind === 'link' && !link.target.includes('/')) return { kind: 'alias', of: link.target }
  const reading = await system.readFile(path, MAX_UNIT_BYTES)
  if (reading.kind === 'file') {
    return reading.truncated
      ? { kind: 'unknown', why: `${path}: longer than ${MAX_UNIT_BYTES} bytes` }
      : { kind: 'file', text: reading.bytes.toString('utf8') }
  }
  if (await leadsToNull(system, path)) return { kind: 'masked' }
  return reading.kind === 'missing' ? undefined : { kind: 'unknown', why: `${path}: ${reading.code}` }
}

/** Followed by hand: /dev/null itself is no regular file, and there is none in a made-up root. */
async function leadsToNull(system: System, path: string): Promise<boolean> {
  let here = path
  for (let links = 0; links < MAX_LINKS; links++) {
    if (here === '/dev/null') return true
    const link = await system.readLink(here)
    if (link.kind !== 'link') return false
    here = resolve(dirname(here), link.target)
  }
  return false
}

/** The name that a unit really has in the folder. */
export function resolveAlias(folder: UnitFolder, name: string): string {
  let here = name
  for (let links = 0; links < MAX_LINKS; links++) {
    const entry = folder.units.get(here)
    if (entry?.kind !== 'alias') return here
    // The template of an alias stands for its instances: autovt@tty1 is getty@tty1.
    here = entry.of
  }
  return here
}

/** `name@instance.kind` taken apart; undefined for what is no instance. */
export function templateOf(unit: string): string | undefined {
  const parts = /^([^@]+@)[^@]+(\.[a-z]+)$/.exec(unit)
  return parts === null ? undefined : `${parts[1]}${parts[2]}`
}

/** The file that defines a unit: its own, or the template it is an instance of. */
export function baseOf(folder: UnitFolder, unit: string): string {
  const name = resolveAlias(folder, unit)
  if (folder.units.has(name)) return name
  const template = templateOf(name)
  return template === undefined ? name : resolveAlias(folder, template)
}

/** A unit's settings with all drop-ins, read from the file `base`; undefined when there is no readable file. */
export function settingsOf(folder: UnitFolder, unit: string, base: string): UnitSettings | undefined {
  const entry = folder.units.get(resolveAlias(folder, base))
  if (entry?.kind !== 'file') return undefined
  const own = unit === base ? [] : (folder.dropIns.get(unit) ?? [])
  return parseUnitFile([entry.text, ...(folder.dropIns.get(base) ?? []), ...own])
}
