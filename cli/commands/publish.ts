import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { escapeText } from '../../shared/escape.ts'
import type { Fleet } from '../../shared/fleet-file/fleet.ts'
import { formatProblems } from '../../shared/fleet-file/problem.ts'
import { clusterWarnings } from '../../shared/revision/cluster-warnings.ts'
import { diffRevisions } from '../../shared/revision/explain-diff.ts'
import { readTreeFile } from '../../shared/tree/receive-tree.ts'
import type { Cli } from '../cli.ts'
import { type Connection, withCoordinator } from '../connect.ts'
import { formatBytes } from '../duration.ts'
import { CliError } from '../exit-codes.ts'
import { adoptKey } from '../fleets/adopt-key.ts'
import { decideSuccession, type Succession } from '../fleets/decide-succession.ts'
import { refuseUnwritable } from '../fleets/export-file.ts'
import { carryText, endCutRenewal, exportRevision, signOffline } from '../fleets/export-revision.ts'
import { type FleetKnowledge, loadKeys, requireFleet } from '../fleets/fleet-folder.ts'
import { fetchRevision, type KnownRevision, readLastSeen, writeLastSeen } from '../fleets/known-revision.ts'
import { type Content, type ContentOptions, prepareContent, renewed } from '../fleets/prepare-content.ts'
import { requireFleetFile } from '../fleets/read-fleet-directory.ts'
import { floorOf, signRevision } from '../fleets/sign-revision.ts'
import { synchroniseTrust } from '../fleets/synchronise-trust.ts'
import { upload } from '../fleets/upload.ts'
import { type Format, isData } from '../output/format.ts'
import { showResult } from '../output/show-result.ts'

const DAY_MS = 86_400_000

export interface PublishOptions extends ContentOptions {
  readonly acceptOlder?: boolean | undefined
  readonly renew?: boolean | undefined
  readonly offline?: boolean | undefined
  readonly floor?: number | undefined
  readonly expiresIn?: number | undefined
  readonly key?: readonly string[] | undefined
  readonly output?: Format | undefined
}

/** Signs a fleet directory as the next revision and gives it to the coordinator. */
export async function publish(cli: Cli, dir: string, options: PublishOptions): Promise<void> {
  refuseContradictions(options)
  const { fleet, problems } = await requireFleetFile(dir)
  if (problems.length > 0) cli.io.err(formatProblems(problems))
  const known = await requireFleet(cli.settings.configHome, fleet.id)
  if (options.export !== undefined) {
    if (options.renew && (await endCutRenewal(cli, known, options.export, options.output))) return
    await refuseUnwritable(options.export)
  }
  const work = (connection: Connection | undefined) => publishOne(cli, dir, fleet, known, connection, options)
  if (options.offline) await work(undefined)
  else await withCoordinator(cli, work)
}

function refuseContradictions(options: PublishOptions): void {
  const refuse = (text: string) => {
    throw new CliError('usage', `publish: ${text}`)
  }
  if (options.renew && options.build) {
    refuse('--renew signs the newest revision anew as it is; --build belongs to a publication')
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
    if (!options.renew) {
      for (const text of clusterWarnings(fleet, newest?.targets ?? []))
        cli.io.err(`warning: ${escapeText(text)}\n`)
    }
    const content = options.renew ? renewed(newest) : await prepareContent(cli, dir, fleet, scratch, options)
    const created = cli.clock.now()
    const signed = signRevision(known, {
      fleet,
      content,
      succession,
      floor: floorOf(options.floor, fleet, succession),
      created,
      expires: new Date(created.getTime() + (options.expiresIn ?? fleet.expiresDays * DAY_MS)),
      signers,
    })
    if (connection) await send(cli, connection, known, newest, content, signed, succession, options)
    else await signOffline(cli, known, newest, content, signed, options)
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

/** Gives it to the coordinator, and says which revision is in force now: what was signed, or the newest, when that says the same already. */
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
  const standing = answer.unchanged && newest ? newest : revision
  if (answer.manifestDigest !== standing.manifest.digest) {
    throw new CliError(
      'error',
      answer.unchanged
        ? `the coordinator says that ${answer.manifestDigest} says this already, which is not the newest that it showed`
        : `the coordinator says it published ${answer.manifestDigest}, which is not what was signed`,
    )
  }
  await writeLastSeen(known, standing)
  const number = Number(answer.number)
  const record = {
    number,
    manifestDigest: answer.manifestDigest,
    unchanged: answer.unchanged,
    treeDigest: digest,
    treeLength: length,
    file: options.export ?? null,
  }
  await showResult(cli.io, 'publish', record, options.output, () =>
    answer.unchanged
      ? `revision ${number} already says exactly this; nothing was published (--renew signs it anew)\n`
      : publishedText(number, revision, newest, length, options.renew ?? false),
  )
  if (options.export === undefined) return
  await exportRevision(cli, options.export, content, standing)
  if (!isData(options.output)) cli.io.out(carryText(options.export))
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
