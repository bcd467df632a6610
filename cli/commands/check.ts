import { basename } from 'node:path'
import type { Fleet } from '../../shared/fleet-file/fleet.ts'
import { fleetTargets } from '../../shared/fleet-file/fleet-targets.ts'
import { formatProblems, type Problem } from '../../shared/fleet-file/problem.ts'
import { clusterWarnings } from '../../shared/revision/cluster-warnings.ts'
import { diffRevisions } from '../../shared/revision/explain-diff.ts'
import type { Cli } from '../cli.ts'
import { CliError } from '../exit-codes.ts'
import { readFleet } from '../fleets/fleet-folder.ts'
import { type KnownRevision, readLastSeen } from '../fleets/known-revision.ts'
import { checkDirectory, FLEET_FILE } from '../fleets/read-fleet-directory.ts'
import { type Format, toCsv, toJson, toYaml } from '../output/format.ts'
import type { PlainRecord } from '../output/plain.ts'

export const PROBLEM_FIELDS = ['file', 'line', 'column', 'severity', 'path', 'message'] as const

/** Checks a fleet directory: every problem with its place, without coordinator, git or Nix. */
export async function check(
  cli: Cli,
  dir: string,
  { output }: { readonly output?: Format | undefined },
): Promise<void> {
  const checked = await checkDirectory(dir)
  const { problems } = checked
  switch (output) {
    case 'json':
      cli.io.out(toJson(problems.map(recordOf)))
      break
    case 'yaml':
      cli.io.out(await toYaml(problems.map(recordOf)))
      break
    case 'csv':
      cli.io.out(toCsv(problems.map(recordOf), PROBLEM_FIELDS))
      break
    case 'table':
    case 'wide':
    case undefined:
      cli.io.out(formatProblems(problems))
      if (checked.ok) cli.io.out(await summary(cli, dir, checked.fleet))
  }
  const errors = problems.filter(({ severity }) => severity === 'error').length
  if (!checked.ok) {
    throw new CliError('error', `${errors} ${errors === 1 ? 'error' : 'errors'} in ${basename(FLEET_FILE)}`)
  }
}

function recordOf({ file, line, column, severity, path, message }: Problem): PlainRecord {
  return { file, line, column, severity, path, message }
}

async function summary(cli: Cli, dir: string, fleet: Fleet): Promise<string> {
  const count = (n: number, one: string, more = `${one}s`) => `${n} ${n === 1 ? one : more}`
  const known = await readFleet(cli.settings.configHome, fleet.id)
  const seen = known && (await readLastSeen(known))
  const warnings = clusterWarnings(fleet, seen?.targets ?? [])
  const notes = seen ? notesSince(seen, fleet) : []
  return (
    `${dir}: fleet ${fleet.name} is good: ${count(fleet.hosts.length, 'host')}, ` +
    `${count(fleet.groups.length, 'group')}, ${count(fleet.clusters.length, 'cluster')}\n` +
    warnings.map(warning => `warning: ${warning}\n`).join('') +
    notes.map(note => `note: ${note}\n`).join('')
  )
}

/** What the directory would not do by itself, compared with the newest revision that was seen from here. */
function notesSince({ manifest, targets }: KnownRevision, fleet: Fleet): string[] {
  const before = [...manifest.clusters.values()].map(each => [each.cluster, each.distribution] as const)
  const now = fleet.clusters.map(({ name, distribution }) => [name, distribution] as const)
  return diffRevisions(
    // A revision that names no clusters is of a time before they stood in manifests.
    { targets, distributions: before.length > 0 ? new Map(before) : undefined },
    { targets: fleetTargets(fleet, { mode: 'source' }), distributions: new Map(now) },
  )
    .filter(({ notes }) => notes.length > 0)
    .flatMap(({ notes }) => notes.map(note => `since revision ${manifest.number}: ${note}`))
}
