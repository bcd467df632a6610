import { access, mkdtemp, readFile, rm } from 'node:fs/promises'
import { hostname, tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { encodeEnvelope } from '../../shared/envelope/decode-envelope.ts'
import { signEnvelope } from '../../shared/envelope/envelope.ts'
import { MANIFEST_TYPE } from '../../shared/envelope/payload-types.ts'
import { hasCode, reasonOf } from '../../shared/errors.ts'
import { escapeText } from '../../shared/escape.ts'
import type { Fleet } from '../../shared/fleet-file/fleet.ts'
import { fleetTargets } from '../../shared/fleet-file/fleet-targets.ts'
import { formatProblems } from '../../shared/fleet-file/problem.ts'
import type { Envelope } from '../../shared/gen/muster/v1/envelope_pb.ts'
import type { Target } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'
import { buildManifest } from '../../shared/revision/build-manifest.ts'
import { diffRevisions } from '../../shared/revision/explain-diff.ts'
import { type GitState, gitState } from '../../shared/tree/git.ts'
import { packTree } from '../../shared/tree/pack-tree.ts'
import { readTreeFile } from '../../shared/tree/receive-tree.ts'
import { unpackTree } from '../../shared/tree/unpack-tree.ts'
import { VERSION } from '../../shared/version.ts'
import type { Cli } from '../cli.ts'
import { type Connection, withCoordinator } from '../connect.ts'
import { formatBytes } from '../duration.ts'
import { CliError } from '../exit-codes.ts'
import { adoptKey } from '../fleets/adopt-key.ts'
import { buildClosures, copyClosures } from '../fleets/build-closures.ts'
import { decideSuccession, type Succession } from '../fleets/decide-succession.ts'
import { listCache, writeExport } from '../fleets/export-file.ts'
import { type FleetKnowledge, loadKeys, requireFleet } from '../fleets/fleet-folder.ts'
import {
  fetchRevision,
  type KnownRevision,
  readLastSeen,
  verifyKnown,
  writeLastSeen,
} from '../fleets/known-revision.ts'
import { requireFleetFile } from '../fleets/read-fleet-directory.ts'
import { synchroniseTrust } from '../fleets/synchronise-trust.ts'
import { upload } from '../fleets/upload.ts'
import type { Format } from '../output/format.ts'
import { startProgress } from '../output/progress.ts'
import { showOne } from '../output/show-list.ts'

const DAY_MS = 86_400_000

export interface PublishOptions {
  readonly allowDirty?: boolean | undefined
  readonly acceptOlder?: boolean | undefined
  readonly build?: boolean | undefined
  readonly renew?: boolean | undefined
  readonly offline?: boolean | undefined
  readonly floor?: number | undefined
  readonly expiresIn?: number | undefined
  readonly export?: string | undefined
  readonly key?: readonly string[] | undefined
  readonly signingKeyFile?: string | undefined
  readonly option?: readonly (readonly [string, string])[] | undefined
  readonly output?: Format | undefined
}

/** Signs a fleet directory as the next revision and gives it to the coordinator. */
export async function publish(cli: Cli, dir: string, options: PublishOptions): Promise<void> {
  refuseContradictions(options)
  const { fleet, problems } = await requireFleetFile(dir)
  if (problems.length > 0) cli.io.err(formatProblems(problems))
  const known = await requireFleet(cli.settings.configHome, fleet.id)
  const work = (connection: Connection | undefined) => publishOne(cli, dir, fleet, known, connection, options)
  if (options.offline) await work(undefined)
  else await withCoordinator(cli, work)
}

function refuseContradictions(options: PublishOptions): void {
  const refuse = (text: string) => {
    throw new CliError('usage', `publish: ${text}`)
  }
  if (options.renew && (options.build || options.export !== undefined)) {
    refuse('--renew signs the newest revision anew as it is; --build and --export belong to a publication')
  }
  if (options.offline && options.export === undefined)
    refuse('--offline needs --export FILE: there is nothing else it could go to')
  if (options.signingKeyFile !== undefined && !options.build) refuse('--signing-key-file is for --build')
  if ((options.option?.length ?? 0) > 0 && !options.build) refuse('--option is for --build')
}

async function publishOne(
  cli: Cli,
  dir: string,
  fleet: Fleet,
  offlineTrust: FleetKnowledge,
  connection: Connection | undefined,
  options: PublishOptions,
): Promise<void> {
  const known = connection ? await sameFleet(connection, fleet, offlineTrust) : offlineTrust
  await adoptKey(known.folder, known.trust)
  const signers = await loadKeys(known, options.key)
  const lastSeen = await readLastSeen(known)
  const newest = connection ? await fetchRevision(connection, known, 0) : lastSeen
  const succession = decideSuccession({
    newest: newest?.manifest,
    lastSeen: lastSeen?.manifest,
    acceptOlder: options.acceptOlder ?? false,
  })
  if (succession.kind === 'refused') throw new CliError('refused', succession.reason)
  if (succession.note !== undefined) cli.io.err(`note: ${succession.note}\n`)
  const scratch = await mkdtemp(join(tmpdir(), 'muster-publish-'))
  try {
    const content = options.renew ? renewed(newest) : await prepareContent(cli, dir, fleet, scratch, options)
    const created = cli.clock.now()
    const envelope = sign(known, {
      fleet,
      content,
      succession,
      floor: floorOf(options, fleet, succession),
      created,
      expires: new Date(created.getTime() + (options.expiresIn ?? fleet.expiresDays * DAY_MS)),
      signers,
    })
    if (connection) await send(cli, connection, known, newest, content, envelope, succession, options)
    else await rememberOffline(cli, known, envelope)
    if (options.export !== undefined) await exportRevision(cli, options.export, content, envelope)
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

async function sameFleet(
  connection: Connection,
  fleet: Fleet,
  known: FleetKnowledge,
): Promise<FleetKnowledge> {
  const { fleetId } = await connection.client.getFleet({}, connection.call)
  if (fleetId !== '' && fleetId !== fleet.id) {
    throw new CliError(
      'refused',
      `fleet.toml is of fleet ${fleet.id}, the coordinator at ${connection.place} serves ${fleetId}`,
    )
  }
  return synchroniseTrust(connection, known)
}

/** What a revision is made of, apart from number and time. */
interface Content {
  readonly tree: { readonly digest: string; readonly length: number; readonly file: string | undefined }
  readonly targets: readonly Target[]
  readonly provenance: { readonly commit: string; readonly dirty: boolean; readonly lockDigest: string }
  readonly leastNixVersion: string | undefined
  /** A binary cache with the closures, for exporting. */
  readonly cache: string | undefined
}

function renewed(newest: KnownRevision | undefined): Content {
  if (!newest)
    throw new CliError('notFound', 'publish --renew: there is no revision yet that could be renewed')
  const { manifest } = newest.manifest
  const { commit, dirty, lockDigest } = manifest.provenance ?? { commit: '', dirty: false, lockDigest: '' }
  return {
    tree: { digest: manifest.treeDigest, length: Number(manifest.treeLength), file: undefined },
    targets: newest.targets,
    provenance: { commit, dirty, lockDigest },
    leastNixVersion: manifest.requirements?.leastNixVersion || undefined,
    cache: undefined,
  }
}

async function prepareContent(
  cli: Cli,
  dir: string,
  fleet: Fleet,
  scratch: string,
  options: PublishOptions,
): Promise<Content> {
  const git = await gitState(dir)
  refuseDirty(dir, git, options.allowDirty ?? false)
  const file = join(scratch, 'tree')
  const packed = await packTree(dir, file)
  if (packed.kind === 'refused') throw new CliError('refused', packed.reason)
  for (const note of packed.notes) cli.io.err(`note: ${escapeText(note)}\n`)
  const lockDigest = await digestOfLock(dir)
  const { targets, cache } = options.build
    ? await buildTargets(cli, fleet, packed, file, scratch, options)
    : { targets: fleetTargets(fleet, { mode: 'source' }), cache: undefined }
  if (!options.build) await warnAboutFlake(cli, dir, lockDigest)
  for (const { host } of targets.filter(({ way }) => way.case === undefined)) {
    cli.io.err(
      `note: ${escapeText(host)} runs another system (os = "external"): it is shown, and no part of the revision\n`,
    )
  }
  return {
    tree: { digest: packed.digest, length: packed.length, file },
    targets: targets.filter(({ way }) => way.case !== undefined),
    provenance: {
      commit: git.kind === 'none' ? '' : (git.commit ?? ''),
      dirty: git.kind === 'dirty',
      lockDigest,
    },
    leastNixVersion: fleet.leastNixVersion,
    cache,
  }
}

function refuseDirty(dir: string, git: GitState, allowed: boolean): void {
  if (git.kind !== 'dirty' || allowed) return
  const files = git.dirtyFiles.slice(0, 10).map(file => `  ${escapeText(file)}`)
  const more = git.dirtyFiles.length > 10 ? `\n  … and ${git.dirtyFiles.length - 10} more` : ''
  const what = git.commit === undefined ? 'has no commit yet' : 'differs from its commit'
  throw new CliError(
    'refused',
    `${dir}: ${what}, so nobody could tell later what was published. Commit first, or say --allow-dirty${
      files.length > 0 ? `:\n${files.join('\n')}${more}` : ''
    }`,
  )
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
  options: PublishOptions,
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
  const { storePaths, publicKeys } = await buildClosures({
    fleet,
    tree,
    options: options.option ?? [],
    signingKeyFile: options.signingKeyFile,
    signal: cli.signal,
    onBuild: name => cli.io.err(`building ${name}\n`),
    onOutput,
  })
  const paths = [...storePaths.values()].map(({ storePath }) => storePath)
  if (fleet.store !== undefined && paths.length > 0) {
    cli.io.err(`copying to ${fleet.store}\n`)
    await copyClosures(fleet.store, paths, cli.signal, onOutput)
  }
  const cache = options.export === undefined ? undefined : join(scratch, 'cache')
  if (cache !== undefined && paths.length > 0)
    await copyClosures(`file://${cache}`, paths, cli.signal, onOutput)
  const bytes = [...storePaths.values()].reduce((sum, { closureBytes }) => sum + Number(closureBytes), 0)
  cli.io.err(
    `built ${storePaths.size} ${storePaths.size === 1 ? 'system' : 'systems'}, ${formatBytes(bytes)} unpacked\n`,
  )
  return { targets: fleetTargets(fleet, { mode: 'closure', storePaths, publicKeys }), cache }
}

/** What Nix says, with its lines kept and everything else that could steer the terminal shown. */
function shownOutput(text: string): string {
  return text
    .split(/\r?\n|\r/)
    .map(escapeText)
    .join('\n')
}

function floorOf(
  { floor }: PublishOptions,
  fleet: Fleet,
  succession: Extract<Succession, { kind: 'next' }>,
): number {
  const wanted = floor ?? fleet.floor ?? succession.floor
  if (wanted > succession.number) {
    throw new CliError(
      'usage',
      `floor ${wanted}: may not be above ${succession.number}, the number of this revision`,
    )
  }
  if (wanted < succession.floor && floor !== undefined) {
    throw new CliError(
      'usage',
      `floor ${wanted}: is below ${succession.floor}, that of the revision before, and a floor never falls`,
    )
  }
  return Math.max(wanted, succession.floor)
}

function sign(
  known: FleetKnowledge,
  input: {
    readonly fleet: Fleet
    readonly content: Content
    readonly succession: Extract<Succession, { kind: 'next' }>
    readonly floor: number
    readonly created: Date
    readonly expires: Date
    readonly signers: Awaited<ReturnType<typeof loadKeys>>
  },
): KnownRevision {
  const { content, succession } = input
  const trustSet: Envelope | undefined = known.chain.at(-1)
  if (!trustSet) throw new CliError('error', `${known.folder}: holds no trust set`)
  const provenance = {
    ...content.provenance,
    publisher: `${userInfo().username}@${hostname()}`.slice(0, 256),
    tool: `muster ${VERSION}`,
  }
  let built: ReturnType<typeof buildManifest>
  try {
    built = buildManifest({
      fleetId: input.fleet.id,
      number: succession.number,
      predecessor: succession.predecessor,
      floor: input.floor,
      tree: content.tree,
      targets: content.targets,
      created: input.created,
      expires: input.expires,
      provenance,
      ...(content.leastNixVersion === undefined ? {} : { leastNixVersion: content.leastNixVersion }),
      trustSet,
    })
  } catch (error) {
    throw new CliError('error', `the revision cannot be made: ${reasonOf(error)}`, { cause: error })
  }
  const envelope = signEnvelope(built.payload, MANIFEST_TYPE, input.signers)
  const revision = verifyKnown(
    envelope,
    built.targets.map(({ bytes }) => bytes),
    known,
  )
  if ('kind' in revision) {
    throw new CliError(
      'refused',
      `machines would refuse this revision: ${revision.reason}. Is the key the one of the trust set (\`muster trust show\`)? Further keys are given with --key`,
    )
  }
  return revision
}

async function send(
  cli: Cli,
  connection: Connection,
  known: FleetKnowledge,
  newest: KnownRevision | undefined,
  content: Content,
  revision: KnownRevision,
  succession: Extract<Succession, { kind: 'next' }>,
  options: PublishOptions,
): Promise<void> {
  const { file, length, digest } = content.tree
  const answer = await upload(cli, connection, {
    revision,
    expectedPredecessor: succession.predecessor,
    renew: options.renew ?? false,
    tree: file === undefined ? undefined : { chunks: readTreeFile(file), length },
  })
  if (!answer.unchanged && answer.manifestDigest !== revision.manifest.digest) {
    throw new CliError(
      'error',
      `the coordinator says it published ${answer.manifestDigest}, which is not what was signed`,
    )
  }
  await writeLastSeen(known, answer.unchanged && newest ? newest : revision)
  const number = Number(answer.number)
  const record = {
    number,
    manifestDigest: answer.manifestDigest,
    unchanged: answer.unchanged,
    treeDigest: digest,
    treeLength: length,
  }
  await showOne(cli.io, record, options.output, () =>
    answer.unchanged
      ? `revision ${number} already says exactly this; nothing was published (--renew signs it anew)\n`
      : publishedText(number, revision, newest, length, options.renew ?? false),
  )
}

function publishedText(
  number: number,
  revision: KnownRevision,
  newest: KnownRevision | undefined,
  length: number,
  renew: boolean,
): string {
  const until = revision.manifest.expires.toISOString()
  const head = `revision ${number} is published, good until ${until}\n  manifest ${revision.manifest.digest}\n`
  if (renew) return `${head}Its tree is that of revision ${number - 1}: nothing is applied again.\n`
  const changes = diffRevisions({ targets: newest?.targets ?? [] }, { targets: revision.targets })
  const notes = changes.flatMap(change => change.notes).map(note => `note: ${escapeText(note)}\n`)
  const names = changes.slice(0, 8).map(({ name, change }) => `${name} (${change})`)
  const more = changes.length > 8 ? ` and ${changes.length - 8} more` : ''
  const what = changes.length === 0 ? 'no host changes but by its files' : `${names.join(', ')}${more}`
  return (
    `${head}  tree ${formatBytes(length)}; ${escapeText(what)}\n${notes.join('')}` +
    `${number > 1 ? `Look: muster diff ${number - 1} ${number}   ` : ''}Apply: muster apply HOST, or --where 'true'\n`
  )
}

async function rememberOffline(cli: Cli, known: FleetKnowledge, revision: KnownRevision): Promise<void> {
  await writeLastSeen(known, revision)
  cli.io.out(
    `revision ${revision.manifest.number} is signed (${revision.manifest.digest}); no coordinator has it yet\n`,
  )
}

async function exportRevision(
  cli: Cli,
  path: string,
  content: Content,
  revision: KnownRevision,
): Promise<void> {
  const { file } = content.tree
  if (file === undefined) throw new CliError('error', 'export: there is no tree')
  using progress = startProgress(cli, 'export')
  await writeExport(path, async add => {
    await add('envelope', '', encodeEnvelope(revision.envelope))
    for (const bytes of revision.targetBytes) await add('target', sha256Hex(bytes), bytes)
    await add('tree', content.tree.digest, { file })
    if (content.cache === undefined) return
    for (const name of await listCache(content.cache)) {
      progress.update(name)
      await add('cache', name, { file: join(content.cache, name) })
    }
  })
  progress.end()
  cli.io.out(`${path}: take it to the other coordinator and run \`muster import\` there\n`)
}
