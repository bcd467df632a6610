import { describeEnding, type System, succeeded } from '../system/system.ts'

/** What fetching a closure would add to the store. */
export type ClosureNeed =
  | { readonly kind: 'need'; readonly bytes: number; readonly paths: number }
  | { readonly kind: 'unknown'; readonly why: string }

/** How big a closure in the store is, and how much of it the running system has not. */
export type ClosureSize =
  | {
      readonly kind: 'size'
      readonly bytes: number
      readonly paths: number
      readonly newBytes: number
      readonly newPaths: number
    }
  | { readonly kind: 'unknown'; readonly why: string }

export interface ClosureSource {
  readonly storePath: string
  readonly substituters: readonly string[]
  readonly publicKeys: readonly string[]
}

const DEADLINE_MS = 120_000
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024
/** Paths asked for at once; they stand on a command line. */
const QUERIED = 500
/** A closure of more paths is no NixOS system. */
const MAX_PATHS = 200_000

/**
 * Asks Nix what it would fetch, from the places that the fetch will use and nothing else. Sizes are the caches' own
 * claims: enough to refuse early, not to rely on.
 */
export async function closureNeed(
  system: System,
  { storePath, substituters, publicKeys }: ClosureSource,
  signal?: AbortSignal,
): Promise<ClosureNeed> {
  const options = {
    substituters: substituters.join(' '),
    'trusted-public-keys': publicKeys.join(' '),
    'max-jobs': '0',
    'narinfo-cache-negative-ttl': '0',
  }
  const flags = Object.entries(options).flatMap(([name, value]) => ['--option', name, value])
  const { ending, stderr, truncated } = await system.run(
    'nix-store',
    ['--realise', '--dry-run', storePath, ...flags],
    { deadlineMs: DEADLINE_MS, signal, maxOutputBytes: MAX_OUTPUT_BYTES },
  )
  if (!succeeded(ending)) return unknown(describeEnding('nix-store --realise --dry-run', ending))
  if (truncated) return unknown('nix-store --realise --dry-run: printed too much')
  return parseDryRun(stderr)
}

const UNITS = new Map([
  ['bytes', 1],
  ['KiB', 1024],
  ['MiB', 1024 ** 2],
  ['GiB', 1024 ** 3],
  ['TiB', 1024 ** 4],
])

/** Reads "these 5 paths will be fetched (1.20 MiB download, 5.60 MiB unpacked):" and what may stand around it. */
export function parseDryRun(text: string): ClosureNeed {
  const missing = /^(?:don't know how to build (?:this|these).*|.* will be built):$/m.exec(text)
  if (missing) return unknown(`not all of it can be fetched: ${missing[0].slice(0, 120)}`)
  const fetched =
    /^(?:this path|these (\d+) paths) will be fetched \([\d.]+ \w+ download, ([\d.]+) (\w+) unpacked\):$/m.exec(
      text,
    )
  if (!fetched) {
    return /will be fetched/.test(text)
      ? unknown('nix-store --dry-run: says in unknown words what it would fetch')
      : { kind: 'need', bytes: 0, paths: 0 }
  }
  const unit = UNITS.get(fetched[3] ?? '')
  const amount = Number(fetched[2])
  if (unit === undefined || !Number.isFinite(amount)) {
    return unknown(`nix-store --dry-run: unknown size ${fetched[2]} ${fetched[3]}`)
  }
  // Printed with few digits: rounded up to what the next of them would be.
  const digits = (fetched[2]?.split('.')[1] ?? '').length
  return {
    kind: 'need',
    bytes: Math.ceil((amount + 10 ** -digits) * unit),
    paths: fetched[1] === undefined ? 1 : Number(fetched[1]),
  }
}

/** Measures a closure that is in the store, against the one that runs. */
export async function closureSize(
  system: System,
  target: string,
  current: string | undefined,
  signal?: AbortSignal,
): Promise<ClosureSize> {
  const query = async (args: readonly string[]) => {
    const { ending, stdout, truncated } = await system.run('nix-store', ['--query', ...args], {
      deadlineMs: DEADLINE_MS,
      signal,
      maxOutputBytes: MAX_OUTPUT_BYTES,
    })
    if (!succeeded(ending)) return describeEnding(`nix-store --query ${args[0]}`, ending)
    if (truncated) return `nix-store --query ${args[0]}: printed too much`
    return stdout.split('\n').filter(Boolean)
  }
  const paths = await query(['--requisites', target])
  if (typeof paths === 'string') return unknown(paths)
  if (paths.length > MAX_PATHS) return unknown(`${target}: more than ${MAX_PATHS} paths`)
  // What runs may be no store path at all (a machine that is only installed): then all of it is new.
  const running = current === undefined ? [] : await query(['--requisites', current])
  const known = new Set(typeof running === 'string' ? [] : running)
  const size = { kind: 'size', bytes: 0, paths: paths.length, newBytes: 0, newPaths: 0 } as const
  let { bytes, newBytes, newPaths } = { bytes: 0, newBytes: 0, newPaths: 0 }
  for (let at = 0; at < paths.length; at += QUERIED) {
    const asked = paths.slice(at, at + QUERIED)
    const sizes = await query(['--size', ...asked])
    if (typeof sizes === 'string') return unknown(sizes)
    if (sizes.length !== asked.length || !sizes.every(text => /^\d{1,15}$/.test(text))) {
      return unknown('nix-store --query --size: does not tell one size for each path')
    }
    for (const [index, path] of asked.entries()) {
      const own = Number(sizes[index])
      bytes += own
      if (known.has(path)) continue
      newBytes += own
      newPaths += 1
    }
  }
  return { ...size, bytes, newBytes, newPaths }
}

function unknown(why: string): { readonly kind: 'unknown'; readonly why: string } {
  return { kind: 'unknown', why }
}
