import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { hasCode } from '../../shared/errors.ts'
import type { Fleet } from '../../shared/fleet-file/fleet.ts'
import { formatProblems, type Problem } from '../../shared/fleet-file/problem.ts'
import { type FleetFileOptions, readFleetFile } from '../../shared/fleet-file/read-fleet-file.ts'
import { compileSelector } from '../../shared/query/expression.ts'
import { CliError } from '../exit-codes.ts'
import { checkJobIn } from './check-job.ts'
import { checkManifests } from './check-manifests.ts'
import { checkScriptIn } from './check-script.ts'

export const FLEET_FILE = 'fleet.toml'
const MAX_FLEET_FILE_BYTES = 16 * 1024 * 1024

export type CheckedDirectory =
  | { readonly ok: true; readonly fleet: Fleet; readonly problems: readonly Problem[] }
  | { readonly ok: false; readonly problems: readonly Problem[] }

/** Reads and checks the fleet file of a directory, the scripts and Jobs that it names, and that no manifest is a link. */
export async function checkDirectory(dir: string): Promise<CheckedDirectory> {
  const path = join(dir, FLEET_FILE)
  const checked = checkText(await readText(path), path, {
    checkScript: checkScriptIn(dir),
    checkJob: checkJobIn(dir),
  })
  if (!checked.ok) return checked
  const links = await checkManifests(
    dir,
    path,
    checked.fleet.clusters.map(({ name }) => name),
  )
  return links.length === 0 ? checked : { ok: false, problems: [...checked.problems, ...links] }
}

export function checkText(
  text: string,
  path: string,
  files: Pick<FleetFileOptions, 'checkScript' | 'checkJob'> = {},
): CheckedDirectory {
  return readFleetFile(text, path, {
    ...files,
    checkRule: rule => {
      const compiled = compileSelector(rule)
      return compiled.kind === 'refused' ? compiled : undefined
    },
  })
}

/** The fleet of a directory; a file with errors is a failure that names all of them. */
export async function requireFleetFile(
  dir: string,
): Promise<{ readonly fleet: Fleet; readonly problems: readonly Problem[] }> {
  const checked = await checkDirectory(dir)
  if (checked.ok) return checked
  throw new CliError(
    'error',
    `${join(dir, FLEET_FILE)} has errors:\n${formatProblems(checked.problems).trimEnd()}`,
  )
}

async function readText(path: string): Promise<string> {
  let bytes: Buffer
  try {
    bytes = await readFile(path)
  } catch (error) {
    if (hasCode(error, 'ENOTDIR')) {
      throw new CliError(
        'usage',
        `${dirname(path)}: is a file; give the fleet directory, which holds ${FLEET_FILE}`,
      )
    }
    if (hasCode(error, 'ENOENT')) {
      throw new CliError('notFound', `${path}: no such file; \`muster init DIR\` writes a fleet directory`)
    }
    if (hasCode(error, 'EACCES')) throw new CliError('refused', `${path}: may not be read by you`)
    throw error
  }
  if (bytes.length > MAX_FLEET_FILE_BYTES) {
    throw new CliError('error', `${path}: larger than ${MAX_FLEET_FILE_BYTES} bytes`)
  }
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    throw new CliError('error', `${path}: is not UTF-8 text`)
  }
}
