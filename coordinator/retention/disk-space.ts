import { statfs } from 'node:fs/promises'

/** Share of a file system that may be used before people are told. */
const ALARM_SHARE = 0.8

/** What is wrong with the room for the state folder; undefined: nothing. */
export async function diskProblem(stateDir: string): Promise<string | undefined> {
  const { blocks, bavail, bsize } = await statfs(stateDir)
  return judgeDisk(stateDir, { totalBytes: blocks * bsize, freeBytes: bavail * bsize })
}

export function judgeDisk(
  stateDir: string,
  { totalBytes, freeBytes }: { readonly totalBytes: number; readonly freeBytes: number },
): string | undefined {
  if (totalBytes <= 0) return `the room below ${stateDir} cannot be told`
  const used = 1 - freeBytes / totalBytes
  if (used < ALARM_SHARE) return undefined
  const free = Math.floor(freeBytes / 1_000_000)
  return `the file system of ${stateDir} is ${Math.round(used * 100)} % full, ${free} MB are free: make room, or lower \`retention\``
}
