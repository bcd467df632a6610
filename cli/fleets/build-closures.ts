import type { Fleet } from '../../shared/fleet-file/fleet.ts'
import type { BuiltClosure } from '../../shared/fleet-file/fleet-targets.ts'
import { clusterOf } from '../../shared/fleet-file/fleet-targets.ts'
import { closureDigest } from '../../shared/revision/closure-digest.ts'
import { kubernetesAttribute } from '../../shared/revision/kubernetes-target.ts'
import { CliError } from '../exit-codes.ts'
import { runNix } from './nix.ts'
import { readPrivateFile } from './private-file.ts'

export interface BuildInput {
  readonly fleet: Fleet
  /** The unpacked tree: what is built is exactly what is signed. */
  readonly tree: string
  /** Pairs for Nix's --option. */
  readonly options: readonly (readonly [name: string, value: string])[]
  /** A secret key of Nix that signs every path. */
  readonly signingKeyFile: string | undefined
  readonly signal: AbortSignal
  readonly onBuild: (name: string) => void
  readonly onOutput: (text: string) => void
}

export interface BuiltClosures {
  /** By name of host or group. */
  readonly storePaths: ReadonlyMap<string, BuiltClosure>
  /** By the same names: the profiles of Kubernetes that lives apart. */
  readonly kubernetesPaths: ReadonlyMap<string, BuiltClosure>
  /** Public half of the key that signed. */
  readonly publicKeys: readonly string[]
}

/**
 * Builds every host and group that installs something, and Kubernetes where it lives apart, signs the closures, and says
 * what they are.
 */
export async function buildClosures(input: BuildInput): Promise<BuiltClosures> {
  const { fleet, signal, onOutput, signingKeyFile } = input
  const publicKey = signingKeyFile === undefined ? undefined : await publicHalf(signingKeyFile)
  const entries = [...fleet.hosts, ...fleet.groups.filter(({ admission }) => admission)]
  const options = [...input.options, ['accept-flake-config', 'false'] as const].flatMap(([name, value]) => [
    '--option',
    name,
    value,
  ])
  const build = async (name: string, attribute: string) => {
    input.onBuild(name)
    const installable = `path:${input.tree}#${attribute}`
    const printed = await runNix({
      args: [
        'build',
        '--no-link',
        '--json',
        '--no-update-lock-file',
        '--print-build-logs',
        ...options,
        installable,
      ],
      signal,
      onOutput,
    })
    const storePath = parseBuilt(printed)
    if (storePath === undefined) {
      throw new CliError('failed', `building ${name} gave no store path: ${printed.trim()}`)
    }
    if (signingKeyFile !== undefined) {
      await runNix({
        args: ['store', 'sign', '--key-file', signingKeyFile, '--recursive', storePath],
        signal,
        onOutput,
      })
    }
    return describeClosure(storePath, signal)
  }
  const storePaths = new Map<string, BuiltClosure>()
  const kubernetesPaths = new Map<string, BuiltClosure>()
  for (const entry of entries) {
    const { name, attribute, external } = entry
    if (!external) {
      storePaths.set(name, await build(name, `nixosConfigurations.${attribute}.config.system.build.toplevel`))
    }
    if (clusterOf(fleet, entry)?.life === 'apart') {
      kubernetesPaths.set(name, await build(`Kubernetes of ${name}`, kubernetesAttribute(attribute)))
    }
  }
  return { storePaths, kubernetesPaths, publicKeys: publicKey === undefined ? [] : [publicKey] }
}

/** The output of `nix build --json`: one result with an output named out. */
export function parseBuilt(text: string): string | undefined {
  const parsed: unknown = JSON.parse(text)
  const first: unknown = Array.isArray(parsed) && parsed.length === 1 ? parsed[0] : undefined
  if (typeof first !== 'object' || first === null || !('outputs' in first)) return undefined
  const { outputs } = first
  const out: unknown =
    typeof outputs === 'object' && outputs !== null && 'out' in outputs ? outputs.out : undefined
  return typeof out === 'string' && /^\/nix\/store\/[^\s/]+$/.test(out) ? out : undefined
}

/** Digest and size of a closure, as the manifest's documentation defines them. */
async function describeClosure(storePath: string, signal: AbortSignal): Promise<BuiltClosure> {
  const text = await runNix({ args: ['path-info', '--json', '--recursive', storePath], signal })
  const paths = parsePathInfo(text)
  if (!paths.some(({ path }) => path === storePath)) {
    throw new CliError('error', `nix path-info does not know ${storePath}, which it just built`)
  }
  const digest = closureDigest(paths)
  if (digest === undefined) throw unreadable()
  return {
    storePath,
    closureDigest: digest,
    closureBytes: paths.reduce((sum, { narSize }) => sum + BigInt(narSize), 0n),
  }
}

export interface PathInfo {
  readonly path: string
  readonly narHash: string
  readonly narSize: number
}

/** Reads `nix path-info --json`: a list up to Nix 2.18, an object by path since. */
export function parsePathInfo(text: string): PathInfo[] {
  const parsed: unknown = JSON.parse(text)
  if (typeof parsed !== 'object' || parsed === null) throw unreadable()
  const items: [string | undefined, unknown][] = Array.isArray(parsed)
    ? parsed.map((item: unknown) => [undefined, item])
    : Object.entries(parsed)
  return items.map(([key, item]) => {
    if (typeof item !== 'object' || item === null) throw unreadable()
    const path: unknown = key ?? ('path' in item ? item.path : undefined)
    const narHash: unknown = 'narHash' in item ? item.narHash : undefined
    const narSize: unknown = 'narSize' in item ? item.narSize : undefined
    if (typeof path !== 'string' || typeof narHash !== 'string' || typeof narSize !== 'number')
      throw unreadable()
    return { path, narHash, narSize }
  })
}

function unreadable(): CliError {
  return new CliError(
    'error',
    'nix path-info printed something else than is known of it; is this Nix newer than this program?',
  )
}

/** The public key that belongs to a secret key of Nix ("name:base64 of 64 bytes"). */
async function publicHalf(file: string): Promise<string> {
  const text = (await readPrivateFile(file, '`nix key generate-secret --key-name NAME` makes one')).trim()
  const [, name, base64] = /^([A-Za-z0-9._+-]+):([A-Za-z0-9+/=]+)$/.exec(text) ?? []
  const bytes = Buffer.from(base64 ?? '', 'base64')
  if (name === undefined || bytes.length !== 64) {
    throw new CliError(
      'error',
      `${file}: is no secret key of Nix (NAME:BASE64, as \`nix key generate-secret\` writes it)`,
    )
  }
  return `${name}:${bytes.subarray(32).toString('base64')}`
}

/** Copies closures to a store, with everything they need. */
export async function copyClosures(
  to: string,
  paths: Iterable<string>,
  signal: AbortSignal,
  onOutput: (text: string) => void,
): Promise<void> {
  await runNix({ args: ['copy', '--to', to, ...new Set(paths)], signal, onOutput })
}
