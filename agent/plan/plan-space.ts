import { basename, dirname } from 'node:path'
import type { SpaceReading, System } from '../system/system.ts'
import { type BootLoaderKind, type BootPlace, findBootPlaces } from './boot-loader.ts'
import type { ClosureNeed } from './closure-size.ts'
import { knownValue } from './part.ts'
import type { SystemParts } from './reboot-reasons.ts'

/** Room where a closure and its kernel go, and what they need. Sizes are bytes. */
export interface PlanSpace {
  readonly store: {
    readonly path: string
    readonly free: Bytes
    readonly need: Bytes
    readonly filesFree: Bytes
  }
  /** Absent where no boot loader copies kernels anywhere. */
  readonly boot?: { readonly place: BootPlace; readonly free: Bytes; readonly need: Bytes }
}

/** An amount, or why nobody knows it. */
export type Bytes =
  | { readonly kind: 'bytes'; readonly bytes: number }
  | { readonly kind: 'unknown'; readonly why: string }

/** What the store needs beyond a closure: its database grows, and a build or a fetch unpacks beside it. */
export const STORE_RESERVE = 64 * 1024 * 1024
/** Entries, the loader's own files and what FAT loses to rounding. */
export const BOOT_RESERVE = 2 * 1024 * 1024

export interface SpaceQuestion {
  /** Folder that holds run/ and boot/; "/" on a real machine. */
  readonly root: string
  readonly storeDir: string
  /** What is still to be fetched; zero once the closure is there. */
  readonly need: ClosureNeed
  /** The target; undefined before it is in the store, when nobody knows its kernel. */
  readonly target: (SystemParts & { readonly bootLoader: BootLoaderKind }) | undefined
}

/** Reads how much room there is and how much is needed. */
export async function readSpace(
  system: System,
  { root, storeDir, need, target }: SpaceQuestion,
): Promise<PlanSpace> {
  const reading = await system.space(storeDir)
  const store = {
    path: storeDir,
    free: freeBytes(storeDir, reading),
    need: need.kind === 'need' ? bytes(need.bytes) : need,
    filesFree: freeFiles(storeDir, reading),
  }
  if (target === undefined) return { store }
  const places = await findBootPlaces(system, root, target.bootLoader)
  const rooms = await Promise.all(
    places.map(async place => ({
      place,
      free: freeBytes(place.mountPoint, await system.space(place.mountPoint)),
      need: await bootNeed(system, place, target),
    })),
  )
  const boot = rooms.toSorted((a, b) => slackOf(a) - slackOf(b))[0]
  return { store, ...(boot && { boot }) }
}

/** Where there is least is what decides, and where nobody knows before all. */
function slackOf({ free, need }: { readonly free: Bytes; readonly need: Bytes }): number {
  // What takes nothing more may be as full as it likes.
  if (need.kind === 'bytes' && need.bytes === 0) return Number.POSITIVE_INFINITY
  return free.kind === 'bytes' && need.kind === 'bytes' ? free.bytes - need.bytes : Number.NEGATIVE_INFINITY
}

/** The bytes of kernel and initrd that are not on the boot partition yet; the installers name copies by store path. */
async function bootNeed(system: System, { kernels }: BootPlace, target: SystemParts): Promise<Bytes> {
  let total = 0
  for (const [name, part] of [
    ['kernel', target.kernel],
    ['initrd', target.initrd],
  ] as const) {
    if (part.kind === 'missing') continue // a system that is not booted by a loader
    const file = knownValue(part)
    if (file === undefined) return { kind: 'unknown', why: `${target.path}/${name} cannot be read` }
    const copy = `${basename(dirname(file))}-${basename(file)}`
    const there = [await system.exists(`${kernels}/${copy}.efi`), await system.exists(`${kernels}/${copy}`)]
    if (there.some(({ kind }) => kind === 'present')) continue
    const size = await system.stat(file)
    if (size.kind !== 'stat') return { kind: 'unknown', why: `${file}: ${codeOf(size)}` }
    total += size.sizeBytes
  }
  return bytes(total)
}

function freeBytes(path: string, reading: SpaceReading): Bytes {
  return reading.kind === 'space'
    ? bytes(reading.freeBytes)
    : { kind: 'unknown', why: `${path}: ${codeOf(reading)}` }
}

/** File systems that make files as needed tell no number of them, and cannot run out. */
function freeFiles(path: string, reading: SpaceReading): Bytes {
  if (reading.kind !== 'space') return { kind: 'unknown', why: `${path}: ${codeOf(reading)}` }
  return bytes(reading.totalFiles === 0 ? Number.MAX_SAFE_INTEGER : reading.freeFiles)
}

function codeOf(reading: { readonly kind: string; readonly code?: string }): string {
  return reading.code ?? reading.kind
}

function bytes(amount: number): Bytes {
  return { kind: 'bytes', bytes: amount }
}
