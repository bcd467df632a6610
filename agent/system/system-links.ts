import { dirname, join, resolve } from 'node:path'
import type { System } from './system.ts'

export const PROFILE = 'nix/var/nix/profiles/system'

/** What /run/current-system points to; undefined: it cannot be read. */
export async function currentSystem(system: System, root: string): Promise<string | undefined> {
  return await linkTarget(system, join(root, 'run/current-system'))
}

/** What the machine was booted with; undefined: it cannot be read. */
export async function bootedSystem(system: System, root: string): Promise<string | undefined> {
  return await linkTarget(system, join(root, 'run/booted-system'))
}

export interface ProfileReading {
  readonly storePath: string
  /** Number of the generation; undefined: the profile names a system without one. */
  readonly generation: number | undefined
}

/** The system that the profile names, the boot default; undefined: cannot be read. */
export async function profileSystem(system: System, root: string): Promise<ProfileReading | undefined> {
  const profile = join(root, PROFILE)
  const first = await linkTarget(system, profile)
  if (first === undefined) return undefined
  const target = resolve(dirname(profile), first)
  if (dirname(target) !== dirname(profile)) return { storePath: target, generation: undefined }
  const storePath = await linkTarget(system, target)
  const number = /-(\d+)-link$/.exec(target)?.[1]
  return storePath === undefined
    ? undefined
    : { storePath, generation: number === undefined ? undefined : Number(number) }
}

async function linkTarget(system: System, path: string): Promise<string | undefined> {
  const link = await system.readLink(path)
  return link.kind === 'link' ? link.target : undefined
}
