import type { System } from '../system/system.ts'

/** Where the EFI system partition, or the one beside it that holds the entries, is mounted on nearly every machine. */
const USUAL = ['boot', 'efi', 'boot/efi'] as const
const MOUNTS = '/proc/mounts'
const MAX_BYTES = 1024 * 1024
const MOST_OTHERS = 16

/**
 * Folders below the root on which the boot loader's files may lie, without their first slash: the usual ones, and after
 * them whatever else is mounted with the one file system that firmware reads.
 */
export async function bootMounts(system: System): Promise<readonly string[]> {
  const others = (await readMounts(system)).flatMap(({ place, type }) =>
    type === 'vfat' ? [place.replace(/^\/+/, '')] : [],
  )
  return [...new Set([...USUAL, ...others.slice(0, MOST_OTHERS)])]
}

/** What is mounted, by its place; none where that cannot be read. */
export async function readMounts(
  system: System,
): Promise<readonly { readonly place: string; readonly type: string }[]> {
  const reading = await system.readFile(MOUNTS, MAX_BYTES)
  const lines = reading.kind === 'file' ? reading.bytes.toString('utf8').split('\n') : []
  return lines.flatMap(line => {
    const [, place, type] = line.split(' ')
    return place === undefined || type === undefined ? [] : [{ place: unescaped(place), type }]
  })
}

/** The kernel writes blanks and backslashes in this file as octal numbers. */
const unescaped = (text: string) =>
  text.replaceAll(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)))
