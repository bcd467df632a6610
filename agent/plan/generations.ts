import { basename } from 'node:path'
import type { System } from '../system/system.ts'
import { knownValue, type Part } from './part.ts'

/** One generation of the system profile. */
export interface Generation {
  readonly number: number
  /** The toplevel's store path; unknown ones are never touched. */
  readonly path: Part
  /** When it was made: milliseconds since 1970 by the clock of that moment; undefined when nobody knows. */
  readonly madeMs: number | undefined
}

/** What the system profile holds and what of it is in use. */
export interface Generations {
  /** Oldest first. */
  readonly generations: readonly Generation[]
  /** Store paths. `missing` is a machine that has none; `unknown` is a machine that nobody can judge. */
  readonly booted: Part
  readonly current: Part
  readonly profile: Part
  /** The generation that the profile points to, which the next boot starts. */
  readonly profileNumber: number | undefined
}

export type GenerationsReading =
  | { readonly kind: 'generations'; readonly value: Generations }
  | { readonly kind: 'unknown'; readonly why: string }

const MAX_NAMES = 8192

/** Reads the generations of the machine below `root`. */
export async function readGenerations(system: System, root: string): Promise<GenerationsReading> {
  const at = (path: string) => `${root.replace(/\/$/, '')}${path}`
  const folder = at('/nix/var/nix/profiles')
  const listing = await system.listDir(folder, MAX_NAMES)
  if (listing.kind === 'unreadable') return { kind: 'unknown', why: `${folder}: ${listing.code}` }
  if (listing.kind === 'dir' && listing.truncated) {
    return { kind: 'unknown', why: `${folder}: more than ${MAX_NAMES} names` }
  }
  const generations: Generation[] = []
  for (const name of listing.kind === 'dir' ? listing.names : []) {
    const number = numberOf(name)
    if (number === undefined) continue
    const made = await system.statLink(`${folder}/${name}`)
    generations.push({
      number,
      path: await storeLink(system, `${folder}/${name}`),
      madeMs: made.kind === 'stat' ? made.modifiedMs : undefined,
    })
  }
  generations.sort((a, b) => a.number - b.number)
  const link = await system.readLink(`${folder}/system`)
  const profileNumber = link.kind === 'link' ? numberOf(basename(link.target)) : undefined
  return {
    kind: 'generations',
    value: {
      generations,
      booted: await storeLink(system, at('/run/booted-system')),
      current: await storeLink(system, at('/run/current-system')),
      profile: profileOf(generations, profileNumber, link.kind),
      profileNumber,
    },
  }
}

function profileOf(generations: readonly Generation[], number: number | undefined, kind: string): Part {
  if (kind === 'missing') return { kind: 'missing' }
  const found = generations.find(generation => generation.number === number)
  return found?.path ?? { kind: 'unknown', why: 'the profile leads to no generation' }
}

function numberOf(name: string): number | undefined {
  const digits = /^system-(\d{1,9})-link$/.exec(name)?.[1]
  return digits === undefined ? undefined : Number(digits)
}

async function storeLink(system: System, path: string): Promise<Part> {
  const reading = await system.readLink(path)
  if (reading.kind === 'missing') return reading
  if (reading.kind === 'unreadable') return { kind: 'unknown', why: `${path}: ${reading.code}` }
  const target = reading.target.replace(/\/+$/, '')
  // Nearly always below /nix/store; a store may lie elsewhere, and that of a simulated machine does.
  return /^\/[\w./+-]{1,200}\/[0-9a-z]{32}-[0-9A-Za-z+._?=-]{1,211}$/.test(target)
    ? { kind: 'value', value: target }
    : { kind: 'unknown', why: `${path}: leads to no store path` }
}

/** The store paths that are in use now. */
export function pathsInUse({ booted, current, profile }: Generations): string[] {
  return [booted, current, profile].flatMap(part => knownValue(part) ?? [])
}
