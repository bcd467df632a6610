import { access, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { hasCode } from '../../shared/errors.ts'
import { escapeText } from '../../shared/escape.ts'
import type { Fleet } from '../../shared/fleet-file/fleet.ts'
import { clusterEntries, fleetTargets, installs } from '../../shared/fleet-file/fleet-targets.ts'
import { formatProblems } from '../../shared/fleet-file/problem.ts'
import { rolloutPolicyMessage } from '../../shared/fleet-file/rollout-message.ts'
import type { ClusterEntry, RolloutPolicy, Target } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'
import { type GitState, gitState } from '../../shared/tree/git.ts'
import { packTree } from '../../shared/tree/pack-tree.ts'
import { unpackTree } from '../../shared/tree/unpack-tree.ts'
import type { Cli } from '../cli.ts'
import { formatBytes } from '../duration.ts'
import { CliError } from '../exit-codes.ts'
import { buildClosures, copyClosures } from './build-closures.ts'
import type { KnownRevision } from './known-revision.ts'
import { findTreeSecrets, withSecrets } from './tree-secrets.ts'

/** What of the options of `publish` decides the content. */
export interface ContentOptions {
  readonly allowDirty?: boolean | undefined
  readonly build?: boolean | undefined
  readonly export?: string | undefined
  readonly signingKeyFile?: string | undefined
  readonly option?: readonly (readonly [string, string])[] | undefined
}

/** What a revision is made of, apart from number and time. */
export interface Content {
  readonly tree: { readonly digest: string; readonly length: number; readonly file: string | undefined }
  readonly targets: readonly Target[]
  readonly clusters: readonly ClusterEntry[]
  readonly provenance: { readonly commit: string; readonly dirty: boolean; readonly lockDigest: string }
  readonly leastNixVersion: string | undefined
  readonly rollout: RolloutPolicy | undefined
  /** A binary cache with the closures, for exporting. */
  readonly cache: string | undefined
}

/** The content of the newest revision, to be signed anew. */
export function renewed(newest: KnownRevision | undefined): Content {
  if (!newest)
    throw new CliError('notFound', 'publish --renew: there is no revision yet that could be renewed')
  const { manifest } = newest.manifest
  const { commit, dirty, lockDigest } = manifest.provenance ?? { commit: '', dirty: false, lockDigest: '' }
  return {
    tree: { digest: manifest.treeDigest, length: Number(manifest.treeLength), file: undefined },
    targets: newest.targets,
    clusters: manifest.clusters,
    provenance: { commit, dirty, lockDigest },
    leastNixVersion: manifest.requirements?.leastNixVersion || undefined,
    rollout: manifest.rollout,
    cache: undefined,
  }
}

/** Checks, packs and, where asked for, builds a fleet directory. */
export async function prepareContent(
  cli: Cli,
  dir: string,
  fleet: Fleet,
  scratch: string,
  options: ContentOptions,
): Promise<Content> {
  const git = await gitState(dir)
  refuseDirty(dir, git, options.allowDirty ?? false)
  const file = join(scratch, 'tree')
  const packed = await packTree(dir, file)
  if (packed.kind === 'refused') throw new CliError('refused', packed.reason)
  await refuseSecrets(dir)
  refuseUnpackedGates(fleet, packed)
  for (const note of packed.notes) cli.io.err(`note: ${escapeText(note)}\n`)
  const lockDigest = await digestOfLock(dir)
  const { targets, cache } = options.build
    ? await buildTargets(cli, fleet, packed, file, scratch, options)
    : { targets: fleetTargets(fleet, { mode: 'source' }), cache: undefined }
  if (!options.build) await warnAboutFlake(cli, dir, lockDigest)
  for (const { host } of targets.filter(target => !installs(target))) {
    cli.io.err(
      `note: ${escapeText(host)} runs another system (os = "external"): it is shown, and no part of the revision\n`,
    )
  }
  return {
    tree: { digest: packed.digest, length: packed.length, file },
    targets: targets.filter(installs),
    clusters: clusterEntries(fleet),
    provenance: {
      commit: git.kind === 'none' ? '' : (git.commit ?? ''),
      dirty: git.kind === 'dirty',
      lockDigest,
    },
    leastNixVersion: fleet.leastNixVersion,
    rollout: rolloutPolicyMessage(fleet),
    cache,
  }
}

function refuseDirty(dir: string, git: GitState, allowed: boolean): void {
  if (git.kind !== 'dirty' || allowed) return
  const files = git.dirtyFiles.slice(0, 10).map(file => `  ${escapeText(file)}`)
  const more = git.dirtyFiles.length > 10 ? `\n  … and ${git.dirtyFiles.length - 10} more` : ''
  const converted =
    git.convertedFiles.length === 0
      ? ''
      : `\ngit calls ${git.convertedFiles.length} of them unchanged, but what lies there, and would be packed, is not what the commit holds: line ends (core.autocrlf), modes (core.fileMode), a filter such as LFS or git-crypt, or a file that git was told to leave alone (skip-worktree)`
  const what = git.commit === undefined ? 'has no commit yet' : 'differs from its commit'
  throw new CliError(
    'refused',
    `${dir}: ${what}, so nobody could tell later what was published. Commit first, or say --allow-dirty${
      files.length > 0 ? `:\n${files.join('\n')}${more}` : ''
    }${converted}`,
  )
}

/** Of the very files that were packed a moment ago. */
async function refuseSecrets(dir: string): Promise<void> {
  const secrets = await findTreeSecrets(dir)
  if (secrets.length === 0) return
  throw new CliError('refused', `${withSecrets(dir, secrets.length)}:\n${formatProblems(secrets).trimEnd()}`)
}

/** The check saw the files themselves; what no machine gets could be asked nowhere. */
function refuseUnpackedGates(
  fleet: Fleet,
  { files, executables }: { readonly files: ReadonlySet<string>; readonly executables: ReadonlySet<string> },
): void {
  for (const { gates } of fleet.clusters) {
    for (const { name, path } of gates) {
      if (files.has(path)) continue
      const cure = `${path} is no file of the revision; is it ignored by .gitignore?`
      throw new CliError('refused', `gate ${name}: ${cure}`)
    }
  }
  for (const { safety } of [...fleet.hosts, ...fleet.groups]) {
    for (const { name, probe } of safety.gates) {
      if (probe.kind !== 'script' || executables.has(probe.path)) continue
      throw new CliError(
        'refused',
        `gate ${name}: ${probe.path} is no executable file of the revision; is it ignored by .gitignore?`,
      )
    }
  }
}

async function digestOfLock(dir: string): Promise<string> {
  try {
    return sha256Hex(await readFile(join(dir, 'flake.lock')))
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return ''
    throw error
  }
}

async function warnAboutFlake(cli: Cli, dir: string, lockDigest: string): Promise<void> {
  const hasFlake = await access(join(dir, 'flake.nix')).then(
    () => true,
    () => false,
  )
  if (!hasFlake) cli.io.err(`warning: ${dir} has no flake.nix, from which machines build\n`)
  else if (lockDigest === '') {
    cli.io.err(
      `warning: ${dir} has no flake.lock; machines update no inputs, so a flake with inputs fails there: nix flake lock\n`,
    )
  }
}

async function buildTargets(
  cli: Cli,
  fleet: Fleet,
  packed: { readonly digest: string; readonly length: number },
  file: string,
  scratch: string,
  options: ContentOptions,
): Promise<{ readonly targets: readonly Target[]; readonly cache: string | undefined }> {
  if (fleet.store === undefined && options.export === undefined) {
    throw new CliError(
      'usage',
      'publish --build: write where closures go (store in [fleet] of fleet.toml), or say --export FILE',
    )
  }
  if (options.signingKeyFile === undefined && fleet.publicKeys.length === 0) {
    throw new CliError(
      'usage',
      'publish --build: machines need a key to check closures by; say --signing-key-file FILE, or write public-keys in [fleet]',
    )
  }
  const tree = join(scratch, 'unpacked')
  const unpacked = await unpackTree({ file, destination: tree, digest: packed.digest, length: packed.length })
  if (unpacked.kind === 'refused') throw new CliError('error', unpacked.reason)
  const onOutput = (text: string) => cli.io.err(shownOutput(text))
  const { storePaths, kubernetesPaths, publicKeys } = await buildClosures({
    fleet,
    tree,
    options: options.option ?? [],
    signingKeyFile: options.signingKeyFile,
    signal: cli.signal,
    onBuild: name => cli.io.err(`building ${name}\n`),
    onOutput,
  })
  const built = [...storePaths.values(), ...kubernetesPaths.values()]
  const paths = built.map(({ storePath }) => storePath)
  if (fleet.store !== undefined && paths.length > 0) {
    cli.io.err(`copying to ${fleet.store}\n`)
    await copyClosures(fleet.store, paths, cli.signal, onOutput)
  }
  const cache = options.export === undefined ? undefined : join(scratch, 'cache')
  if (cache !== undefined && paths.length > 0)
    await copyClosures(`file://${cache}`, paths, cli.signal, onOutput)
  const bytes = built.reduce((sum, { closureBytes }) => sum + Number(closureBytes), 0)
  cli.io.err(
    `built ${storePaths.size} ${storePaths.size === 1 ? 'system' : 'systems'}${
      kubernetesPaths.size > 0 ? ` and Kubernetes for ${kubernetesPaths.size}` : ''
    }, ${formatBytes(bytes)} unpacked\n`,
  )
  return { targets: fleetTargets(fleet, { mode: 'closure', storePaths, kubernetesPaths, publicKeys }), cache }
}

/** What Nix says, with its lines kept and everything else that could steer the terminal shown. */
function shownOutput(text: string): string {
  return text
    .split(/\r?\n|\r/)
    .map(escapeText)
    .join('\n')
}
