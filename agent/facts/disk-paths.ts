import { basename } from 'node:path'
import { cleanText } from './clean-values.ts'
import { compare } from './memory-facts.ts'
import type { Source } from './source.ts'

const FOLDER = '/dev/disk/by-id'

/**
 * Best first. Names with model and serial come before world wide names: drives exist whose world wide names are not
 * unique, and kernels have changed which of them they believe.
 */
const RANKS = [
  /^nvme-(?!eui\.|nvme\.|nguid\.|uuid\.)/,
  /^ata-/,
  /^mmc-/,
  /^scsi-S/,
  /^virtio-/,
  /^wwn-/,
  /^nvme-/,
  /^scsi-/,
  /^usb-/,
]

/** For each disk, by kernel name, the most stable path in /dev/disk/by-id. */
export async function diskPaths(source: Source): Promise<ReadonlyMap<string, string>> {
  const best = new Map<string, string>()
  for (const name of await source.names(FOLDER)) {
    if (/-part\d+$/.test(name) || cleanText(name) !== name) continue
    const target = await source.link(`${FOLDER}/${name}`)
    if (target === undefined) continue
    const disk = basename(target)
    const known = best.get(disk)
    if (known === undefined || isBetter(name, known)) best.set(disk, name)
  }
  return new Map(Array.from(best, ([disk, name]) => [disk, `${FOLDER}/${name}`]))
}

/** Lower rank, then the shorter name (udev adds suffixes to later ones), then the alphabet. */
function isBetter(name: string, known: string): boolean {
  const byRank = rankOf(name) - rankOf(known)
  if (byRank !== 0) return byRank < 0
  return (name.length - known.length || compare(name, known)) < 0
}

function rankOf(name: string): number {
  const rank = RANKS.findIndex(pattern => pattern.test(name))
  return rank < 0 ? RANKS.length : rank
}
