import { join } from 'node:path'
import { readGenerations } from '../plan/generations.ts'
import { describeEnding, type RunResult, type System, succeeded } from '../system/system.ts'
import { PROFILE, profileSystem } from '../system/system-links.ts'

const PROFILE_MS = 60_000

export type ProfilePointed =
  | { readonly kind: 'pointed'; readonly generation: number | undefined }
  | { readonly kind: 'failed'; readonly reason: string }

/** Makes the profile name a system: by this generation, or where that is gone by a new one. */
export async function pointProfile(
  system: System,
  root: string,
  storePath: string,
  generation: number | undefined,
): Promise<ProfilePointed> {
  const profile = join(root, PROFILE)
  const nixEnv = (...args: string[]) =>
    system.run('nix-env', ['-p', profile, ...args], { deadlineMs: PROFILE_MS })
  const before = await profileSystem(system, root)
  if (before?.storePath === storePath) return { kind: 'pointed', generation: before.generation }
  if (generation !== undefined) {
    await nixEnv('--switch-generation', String(generation))
    const now = await profileSystem(system, root)
    if (now?.storePath === storePath) return { kind: 'pointed', generation: now.generation }
  }
  const set = await nixEnv('--set', storePath)
  if (!succeeded(set.ending)) return { kind: 'failed', reason: saidBy('nix-env --set', set) }
  const now = await profileSystem(system, root)
  return now?.storePath === storePath
    ? { kind: 'pointed', generation: now.generation }
    : { kind: 'failed', reason: `no generation of ${storePath} was made in the profile` }
}

/** The generations of a system, the newest last; none where nobody can tell. */
export async function generationsOf(
  system: System,
  root: string,
  storePath: string,
): Promise<readonly number[]> {
  const reading = await readGenerations(system, root)
  if (reading.kind === 'unknown') return []
  return reading.value.generations
    .filter(({ path }) => path.kind === 'value' && path.value === storePath)
    .map(({ number }) => number)
}

function saidBy(command: string, { ending, stderr }: RunResult): string {
  return `${describeEnding(command, ending)}: ${(stderr.trim().split('\n').at(-1) ?? '').slice(0, 300)}`
}
