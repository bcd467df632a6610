import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { escapeText } from '../../shared/escape.ts'
import type { Cluster } from '../../shared/fleet-file/fleet.ts'
import { fleetTargets, installs } from '../../shared/fleet-file/fleet-targets.ts'
import { type ClusterChange, diffClusters } from '../../shared/revision/diff-clusters.ts'
import { diffRevisions, type RevisionContent, type TargetChange } from '../../shared/revision/explain-diff.ts'
import { packTree } from '../../shared/tree/pack-tree.ts'
import { readTreeFile } from '../../shared/tree/receive-tree.ts'
import type { Cli } from '../cli.ts'
import { type Connection, withCoordinator } from '../connect.ts'
import { CliError } from '../exit-codes.ts'
import { type FleetKnowledge, requireFleet } from '../fleets/fleet-folder.ts'
import { fetchRevision, type KnownRevision } from '../fleets/known-revision.ts'
import { checkText, requireFleetFile } from '../fleets/read-fleet-directory.ts'
import { synchroniseTrust } from '../fleets/synchronise-trust.ts'
import { diffFiles, type FileChange, readTreeContent, type TreeContent } from '../fleets/tree-content.ts'
import { paint } from '../output/colour.ts'
import { type Format, toCsv, toJson, toYaml } from '../output/format.ts'
import type { PlainRecord } from '../output/plain.ts'
import { NEWEST } from '../revision-number.ts'

export const CHANGE_FIELDS = ['kind', 'name', 'change', 'fields', 'notes'] as const

/** One side of a comparison. */
type Side =
  | { readonly kind: 'directory'; readonly dir: string }
  | { readonly kind: 'revision'; readonly number: number }

interface LoadedSide {
  readonly label: string
  readonly content: RevisionContent
  /** Absent where the fleet file could not be read: nothing is said of clusters then. */
  readonly clusters: readonly Cluster[] | undefined
  readonly tree: TreeContent
}

/** What is compared with what: nothing said is the newest revision with the folder one stands in. */
export function chooseSides(
  a: string | undefined,
  b: string | undefined,
): readonly [older: Side, newer: Side] {
  const newest: Side = { kind: 'revision', number: NEWEST }
  const first = a === undefined ? undefined : sideOf(a)
  if (b === undefined) {
    if (first === undefined) return [newest, { kind: 'directory', dir: '.' }]
    return first.kind === 'directory' ? [newest, first] : [first, newest]
  }
  const second = sideOf(b)
  if (first === undefined || second.kind === 'directory') {
    throw new CliError(
      'usage',
      'diff: the second argument is the number of a revision, or newest; `muster diff DIR 3` compares revision 3 with DIR',
    )
  }
  return first.kind === 'directory' ? [second, first] : [first, second]
}

function sideOf(text: string): Side {
  if (text === 'newest') return { kind: 'revision', number: NEWEST }
  return /^\d{1,15}$/.test(text)
    ? { kind: 'revision', number: Number(text) }
    : { kind: 'directory', dir: text }
}

export async function diff(
  cli: Cli,
  a: string | undefined,
  b: string | undefined,
  { output }: { readonly output?: Format | undefined },
): Promise<void> {
  const [olderSide, newerSide] = chooseSides(a, b)
  await withCoordinator(cli, async connection => {
    const { fleetId } = await connection.client.getFleet({}, connection.call)
    if (fleetId === '')
      throw new CliError('notFound', 'the coordinator has no fleet yet; nothing to compare with')
    const known = await synchroniseTrust(connection, await requireFleet(cli.settings.configHome, fleetId))
    const load = (side: Side, other: LoadedSide | undefined) =>
      side.kind === 'revision'
        ? loadRevision(connection, known, side.number)
        : loadDirectory(side.dir, fleetId, other?.content)
    const older = await load(olderSide, undefined)
    const newer = await load(newerSide, older)
    const changes = diffRevisions(older.content, newer.content)
    const clusters = older.clusters && newer.clusters ? diffClusters(older.clusters, newer.clusters) : []
    const files = diffFiles(older.tree, newer.tree)
    switch (output) {
      case 'json':
        return cli.io.out(
          toJson({
            from: older.label,
            to: newer.label,
            hosts: changes.map(recordOf),
            clusters: clusters.map(recordOf),
            files: files.map(fileRecord),
          }),
        )
      case 'yaml':
        return cli.io.out(
          await toYaml({
            from: older.label,
            to: newer.label,
            hosts: changes.map(recordOf),
            clusters: clusters.map(recordOf),
            files: files.map(fileRecord),
          }),
        )
      case 'csv':
        return cli.io.out(toCsv([...changes, ...clusters].map(recordOf), CHANGE_FIELDS))
      case 'table':
      case 'wide':
      case undefined:
        return cli.io.out(human(cli.io.colour, older.label, newer.label, { changes, clusters, files }))
    }
  })
}

async function loadRevision(
  connection: Connection,
  known: FleetKnowledge,
  number: number,
): Promise<LoadedSide> {
  const revision = await fetchRevision(connection, known, number)
  if (!revision) {
    // Before the first revision there is nothing: everything is new.
    return {
      label: 'nothing',
      content: { targets: [], distributions: new Map() },
      clusters: [],
      tree: new Map(),
    }
  }
  const { tree, fleetFile } = await fetchTree(connection, revision)
  const checked =
    fleetFile === undefined ? undefined : checkText(fleetFile, `fleet.toml of revision ${number}`)
  return {
    label: `revision ${revision.manifest.number}`,
    content: {
      targets: revision.targets,
      distributions: checked?.ok
        ? new Map(checked.fleet.clusters.map(({ name, distribution }) => [name, distribution]))
        : undefined,
    },
    clusters: checked?.ok ? checked.fleet.clusters : undefined,
    tree,
  }
}

async function fetchTree({ client, call, place }: Connection, { manifest }: KnownRevision) {
  const stream = client.downloadRevisionTree({ number: BigInt(manifest.number) }, call)
  const chunks = (async function* () {
    for await (const { chunk } of stream) yield chunk
  })()
  return readTreeContent(chunks, {
    digest: manifest.manifest.treeDigest,
    length: Number(manifest.manifest.treeLength),
    place: `revision ${manifest.number} at ${place}`,
  })
}

async function loadDirectory(
  dir: string,
  fleetId: string,
  other: RevisionContent | undefined,
): Promise<LoadedSide> {
  const { fleet } = await requireFleetFile(dir)
  if (fleet.id !== fleetId) {
    throw new CliError('refused', `${dir}: is fleet ${fleet.id}, the coordinator's is ${fleetId}`)
  }
  const scratch = await mkdtemp(join(tmpdir(), 'muster-diff-'))
  try {
    const file = join(scratch, 'tree')
    const packed = await packTree(dir, file)
    if (packed.kind === 'refused') throw new CliError('refused', packed.reason)
    const { tree } = await readTreeContent(readTreeFile(file), { ...packed, place: dir })
    // Whether a revision was built by its publisher is no matter of the directory.
    const built = new Map((other?.targets ?? []).map(target => [`${target.host}/${target.group}`, target]))
    const targets = fleetTargets(fleet, { mode: 'source' })
      .filter(installs)
      .map(target => {
        const { way, kubernetes } = built.get(`${target.host}/${target.group}`) ?? {}
        return {
          ...target,
          ...(way?.case === 'closure' && target.way.case !== undefined && { way }),
          ...(kubernetes?.way.case === 'closure' &&
            target.kubernetes?.apart && { kubernetes: { ...target.kubernetes, way: kubernetes.way } }),
        }
      })
    const distributions = new Map(fleet.clusters.map(({ name, distribution }) => [name, distribution]))
    return { label: dir, content: { targets, distributions }, clusters: fleet.clusters, tree }
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

function recordOf({ kind, name, change, fields, notes }: TargetChange | ClusterChange): PlainRecord {
  return {
    kind,
    name,
    change,
    fields: fields.map(({ field, from, to }) => ({ field, from: from ?? null, to: to ?? null })),
    notes,
  }
}

function fileRecord({ path, change }: FileChange): PlainRecord {
  return { path, change }
}

const MOST_FILES = 100
const SIGNS = { added: '+', removed: '-', changed: '~' } as const
const STYLES = { added: 'good', removed: 'bad', changed: 'warn' } as const

interface Differences {
  readonly changes: readonly TargetChange[]
  readonly clusters: readonly ClusterChange[]
  readonly files: readonly FileChange[]
}

function human(colour: boolean, from: string, to: string, { changes, clusters, files }: Differences): string {
  if (changes.length === 0 && clusters.length === 0 && files.length === 0)
    return `${escapeText(from)} and ${escapeText(to)} are the same\n`
  const described = (each: TargetChange | ClusterChange) => describeChange(colour, each)
  const listed = files
    .slice(0, MOST_FILES)
    .map(({ path, change }) => `${paint(`${SIGNS[change]} ${escapeText(path)}`, STYLES[change], colour)}\n`)
  const more = files.length > MOST_FILES ? `… and ${files.length - MOST_FILES} more files\n` : ''
  const title = (text: string) => `\n${paint(text, 'bold', colour)}\n`
  return (
    `${escapeText(from)} → ${escapeText(to)}\n` +
    (changes.length > 0
      ? title('Hosts and groups') + changes.map(described).join('')
      : `${title('Hosts and groups')}all stay as they are\n`) +
    (clusters.length > 0 ? title('Clusters') + clusters.map(described).join('') : '') +
    (files.length > 0
      ? `${title('Files')}${listed.join('')}${more}A host that builds from source may change with any of these files.\n`
      : '')
  )
}

function describeChange(
  colour: boolean,
  { kind, name, change, fields, notes }: TargetChange | ClusterChange,
): string {
  const head = paint(`${SIGNS[change]} ${kind} ${escapeText(name)}`, STYLES[change], colour)
  const shown = change === 'changed' ? fields : []
  return [
    `${head}\n`,
    ...shown.map(
      ({ field, from: before, to: after }) =>
        `    ${escapeText(`${field}: ${before ?? '(none)'} → ${after ?? '(none)'}`)}\n`,
    ),
    ...notes.map(note => `    ${paint(escapeText(note), 'warn', colour)}\n`),
  ].join('')
}
