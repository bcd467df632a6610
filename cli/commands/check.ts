import { basename, join } from 'node:path'
import type { Fleet } from '../../shared/fleet-file/fleet.ts'
import { fleetTargets, installs } from '../../shared/fleet-file/fleet-targets.ts'
import { formatProblems } from '../../shared/fleet-file/problem.ts'
import { clusterWarnings } from '../../shared/revision/cluster-warnings.ts'
import { diffRevisions } from '../../shared/revision/explain-diff.ts'
import { judgeTree } from '../../shared/tree/judge-tree.ts'
import type { Cli } from '../cli.ts'
import { CliError } from '../exit-codes.ts'
import { readFleet } from '../fleets/fleet-folder.ts'
import { type KnownRevision, readLastSeen } from '../fleets/known-revision.ts'
import { checkDirectory, FLEET_FILE } from '../fleets/read-fleet-directory.ts'
import { findTreeSecrets, withSecrets } from '../fleets/tree-secrets.ts'
import { type Format, toCsv, toJson, toYaml } from '../output/format.ts'
import type { PlainRecord } from '../output/plain.ts'

export const PROBLEM_FIELDS = ['file', 'line', 'column', 'severity', 'path', 'message'] as const

/** What is told of a directory: a problem with its place, or what concerns no line of the file. */
interface Finding {
  readonly file: string
  readonly line: number | null
  readonly column: number | null
  readonly severity: 'error' | 'warning' | 'note'
  readonly path: string
  readonly message: string
}

/** Checks a fleet directory: every problem with its place, without coordinator, git or Nix. */
export async function check(
  cli: Cli,
  dir: string,
  { output }: { readonly output?: Format | undefined },
): Promise<void> {
  const checked = await checkDirectory(dir)
  const tree = await judgeTree(dir)
  const refused =
    tree.kind === 'refused' ? [{ ...nowhereIn(dir), severity: 'error' as const, message: tree.reason }] : []
  const secrets = tree.kind === 'good' ? await findTreeSecrets(dir) : []
  const problems = [...checked.problems, ...secrets]
  const remarks = checked.ok ? await remarksOn(cli, dir, checked.fleet) : []
  const untold =
    tree.kind === 'unknown' ? [{ ...nowhereIn(dir), severity: 'warning' as const, message: tree.reason }] : []
  const found = [...refused, ...untold, ...remarks]
  const records = [...problems, ...found].map(recordOf)
  switch (output) {
    case 'json':
      cli.io.out(toJson(records))
      break
    case 'yaml':
      cli.io.out(await toYaml(records))
      break
    case 'csv':
      cli.io.out(toCsv(records, PROBLEM_FIELDS))
      break
    case 'table':
    case 'wide':
    case undefined:
      cli.io.out(formatProblems(problems))
      if (checked.ok && refused.length === 0 && secrets.length === 0) cli.io.out(summary(dir, checked.fleet))
      cli.io.out(found.map(({ severity, message }) => `${severity}: ${message}\n`).join(''))
  }
  const errors = checked.problems.filter(({ severity }) => severity === 'error').length
  if (!checked.ok) {
    throw new CliError('error', `${errors} ${errors === 1 ? 'error' : 'errors'} in ${basename(FLEET_FILE)}`)
  }
  if (secrets.length > 0) throw new CliError('error', withSecrets(dir, secrets.length))
  if (refused.length > 0) throw new CliError('error', `${dir}: cannot be packed, so it cannot be published`)
}

function recordOf({ file, line, column, severity, path, message }: Finding): PlainRecord {
  return { file, line, column, severity, path, message }
}

function summary(dir: string, fleet: Fleet): string {
  const count = (n: number, one: string, more = `${one}s`) => `${n} ${n === 1 ? one : more}`
  return (
    `${dir}: fleet ${fleet.name} is good: ${count(fleet.hosts.length, 'host')}, ` +
    `${count(fleet.groups.length, 'group')}, ${count(fleet.clusters.length, 'cluster')}\n`
  )
}

/** What is about the directory and no line of a file. */
const nowhereIn = (dir: string) => ({ file: dir, line: null, column: null, path: '' })

/** What no line of a good file is wrong with: clusters that will not work as they stand, and what needs a command. */
async function remarksOn(cli: Cli, dir: string, fleet: Fleet): Promise<readonly Finding[]> {
  const known = await readFleet(cli.settings.configHome, fleet.id)
  const seen = known && (await readLastSeen(known))
  const nowhere = { file: join(dir, FLEET_FILE), line: null, column: null }
  return [
    ...clusterWarnings(fleet, seen?.targets ?? []).map(message => ({
      ...nowhere,
      severity: 'warning' as const,
      path: '',
      message,
    })),
    ...(seen ? notesSince(seen, fleet) : []).map(({ path, message }) => ({
      ...nowhere,
      severity: 'note' as const,
      path,
      message,
    })),
  ]
}

/** What the directory would not do by itself, compared with the newest revision that was seen from here. */
function notesSince(
  { manifest, targets }: KnownRevision,
  fleet: Fleet,
): readonly Pick<Finding, 'path' | 'message'>[] {
  const before = [...manifest.clusters.values()].map(each => [each.cluster, each.distribution] as const)
  const now = fleet.clusters.map(({ name, distribution }) => [name, distribution] as const)
  return diffRevisions(
    // A revision that names no clusters is of a time before they stood in manifests.
    { targets, distributions: before.length > 0 ? new Map(before) : undefined },
    {
      targets: fleetTargets(fleet, { mode: 'source' }).filter(installs),
      distributions: new Map(now),
    },
  ).flatMap(({ kind, name, notes }) =>
    notes.map(note => ({
      path: `${kind}s.${name}`,
      message: `since revision ${manifest.number}: ${note}`,
    })),
  )
}
