import { lstat, mkdir, rm } from 'node:fs/promises'
import { hostname, userInfo } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { makePrivateDirectory } from '../../shared/durable-file.ts'
import { generateSigningKey, signingKeyPem } from '../../shared/envelope/keys.ts'
import { hasCode } from '../../shared/errors.ts'
import { initialFleetFile } from '../../shared/fleet-file/initial-fleet-file.ts'
import { randomId } from '../../shared/ids.ts'
import { makeDirectories } from '../../shared/make-directories.ts'
import { makeFirstTrustSet } from '../../shared/trust/make-trust-set.ts'
import type { Cli } from '../cli.ts'
import { CliError } from '../exit-codes.ts'
import { encodeChain, FLEET_FILES, fleetFolder } from '../fleets/fleet-folder.ts'
import { initialFiles } from '../fleets/initial-files.ts'
import { writeNewFile } from '../fleets/private-file.ts'
import type { Format } from '../output/format.ts'
import { showResult } from '../output/show-result.ts'

export interface InitOptions {
  readonly name?: string | undefined
  readonly comment?: string | undefined
  readonly recoveryKey?: string | undefined
  /** Flake reference of Muster itself. */
  readonly musterUrl: string
  readonly output?: Format | undefined
}

/**
 * Writes a fleet directory and everything that makes this person its operator. Nothing that exists is replaced, and when
 * something fails nothing of it stays behind.
 */
export async function init(cli: Cli, dir: string, options: InitOptions): Promise<void> {
  const name = options.name ?? nameFrom(dir)
  const fleetId = randomId()
  if (!/^[A-Za-z0-9+.:/?&=_@~%,-]{1,500}$/.test(options.musterUrl)) {
    throw new CliError(
      'usage',
      '--muster-url: must be a flake reference, such as git+https://git.example/muster',
    )
  }
  const files = initialFiles({ name, fleetFile: fleetFileOf(name, fleetId), musterUrl: options.musterUrl })
  await refuseExisting(
    dir,
    files.map(({ path }) => path),
  )
  const folder = fleetFolder(cli.settings.configHome, fleetId)
  const recoveryPath = resolve(options.recoveryKey ?? join(folder, FLEET_FILES.recoveryKey))
  const [signing, recovery] = [generateSigningKey(), generateSigningKey()]
  const { envelope, trust } = makeFirstTrustSet({
    fleetId,
    keys: [{ key: signing, comment: options.comment ?? whoAmI() }],
    threshold: 1,
    recoveryKeys: [{ key: recovery, comment: 'recovery, kept offline' }],
    caPins: [],
    coordinators: [],
    created: cli.clock.now(),
    signers: [signing],
  })
  const undo: (() => Promise<unknown>)[] = []
  try {
    await makePrivateDirectory(dirname(folder))
    await mkdir(folder, { mode: 0o700 })
    undo.push(() => rm(folder, { recursive: true, force: true }))
    await writeNewFile(join(folder, FLEET_FILES.signingKey), signingKeyPem(signing), 0o600)
    await writeNewFile(recoveryPath, signingKeyPem(recovery), 0o600)
    undo.push(() => rm(recoveryPath, { force: true }))
    await writeNewFile(join(folder, FLEET_FILES.trust), encodeChain([envelope]), 0o600)
    for (const { path, text } of files) {
      const made = await makeDirectories(dirname(join(dir, path)))
      if (made !== undefined) undo.push(() => rm(made, { recursive: true, force: true }))
      await writeNewFile(join(dir, path), text, 0o644)
      undo.push(() => rm(join(dir, path), { force: true }))
    }
  } catch (error) {
    for (const step of undo.reverse()) await step()
    throw error
  }
  const record = {
    directory: dir,
    name,
    fleetId,
    signingKey: join(folder, FLEET_FILES.signingKey),
    recoveryKey: recoveryPath,
    trustFile: join(folder, FLEET_FILES.trust),
    trustPin: trust.digest,
  }
  await showResult(cli.io, 'init', record, options.output, () =>
    nextSteps({ dir, name, fleetId, folder, recoveryPath, trustPin: trust.digest }),
  )
}

function fleetFileOf(name: string, id: string): string {
  try {
    return initialFleetFile({ name, id })
  } catch (error) {
    throw new CliError(
      'usage',
      `${error instanceof Error ? error.message : String(error)}; say --name NAME`,
      { cause: error },
    )
  }
}

/** A fleet's name from its folder's: what may not stand in a name becomes a dash. */
export function nameFrom(dir: string): string {
  const name = basename(resolve(dir))
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, '-')
    .slice(0, 40)
    .replace(/^-+|-+$/g, '')
  return name === '' ? 'fleet' : name
}

function whoAmI(): string {
  return `${userInfo().username}@${hostname()}`.slice(0, 128)
}

async function refuseExisting(dir: string, paths: readonly string[]): Promise<void> {
  const found: string[] = []
  for (const path of paths) {
    try {
      await lstat(join(dir, path))
      found.push(path)
    } catch (error) {
      if (hasCode(error, 'ENOTDIR')) throw new CliError('conflict', `${dir}: is no folder`)
      if (!hasCode(error, 'ENOENT')) throw error
    }
  }
  if (found.length > 0) {
    throw new CliError(
      'conflict',
      `${dir}: has ${found.join(', ')} already; nothing is overwritten. Choose another folder, or move those away`,
    )
  }
}

function nextSteps(made: {
  readonly dir: string
  readonly name: string
  readonly fleetId: string
  readonly folder: string
  readonly recoveryPath: string
  readonly trustPin: string
}): string {
  return `${made.dir}: fleet ${made.name} (${made.fleetId})

Signing key    ${join(made.folder, FLEET_FILES.signingKey)}
               Whoever has it can install anything on every machine of the fleet. Keep a copy in a safe place.
Recovery key   ${made.recoveryPath}
               Move it to a medium that is kept offline, now. It alone can replace a lost or leaked signing key.
Trust set      ${join(made.folder, FLEET_FILES.trust)}
Trust pin      ${made.trustPin}
               Give it to every machine beside the CA pin; it is public.

Next:
${step(`muster check ${made.dir}`, 'after each change of fleet.toml')}
${step(`muster trust set ${join(made.folder, FLEET_FILES.trust)}`, 'tells the coordinator whose signature counts')}
${step('muster token create --ttl 1h --uses 1', 'lets a machine in; or `muster pending` and `muster approve`')}
${step(`muster publish ${made.dir}`, 'signs the directory as a revision')}
${step('muster apply HOST', 'moves a host to it')}
`
}

/** A command and what it is for: beside it where there is room, else below. */
function step(command: string, what: string): string {
  const column = 33
  const line = `  ${command}`
  return line.length < column - 1 ? line.padEnd(column) + what : `${line}\n${' '.repeat(column)}${what}`
}
