import { createPrivateKey, createPublicKey } from 'node:crypto'
import { mkdir, readFile, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { writeFileDurably } from '../../shared/durable-file.ts'
import { hasCode } from '../../shared/errors.ts'
import { escapeText } from '../../shared/escape.ts'
import { type Operator, OperatorSchema } from '../../shared/gen/muster/v1/operator_account_pb.ts'
import { makeDirectories } from '../../shared/make-directories.ts'
import { durationFromMs, millisOf } from '../../shared/time.ts'
import { generateMachineKey } from '../../shared/x509/machine-key.ts'
import { readRsaPublicKey } from '../../shared/x509/public-key.ts'
import type { Cli } from '../cli.ts'
import { type Connection, withCoordinator } from '../connect.ts'
import { formatDuration, formatRemaining } from '../duration.ts'
import { CliError } from '../exit-codes.ts'
import { writeNewFile } from '../fleets/private-file.ts'
import type { Format } from '../output/format.ts'
import { plainOf } from '../output/plain.ts'
import { type Listing, showList } from '../output/show-list.ts'
import { showResult } from '../output/show-result.ts'
import { isOperatorName, PROFILE_FILES, type ProfileAbout, profileFolder } from '../profiles.ts'

export const OPERATOR_FIELDS = ['name', 'id', 'created', 'notAfter', 'removed'] as const

export interface AddOptions {
  readonly publicKey?: string | undefined
  readonly lifetime?: number | undefined
  readonly out?: string | undefined
  readonly output?: Format | undefined
}

/**
 * Registers an operator and writes the folder with which the coordinator is reached from anywhere. The key is made here,
 * or elsewhere, by whoever will use it; then only its public half comes here.
 */
export async function addOperator(cli: Cli, name: string, options: AddOptions): Promise<void> {
  if (!isOperatorName(name)) {
    throw new CliError(
      'usage',
      `${JSON.stringify(name)}: an operator's name has lower-case letters, digits and -, at most 63`,
    )
  }
  const folder = options.out ?? profileFolder(cli.settings.configHome, name)
  await withCoordinator(cli, async connection => {
    const { fleetId } = await connection.client.getFleet({}, connection.call)
    const made = options.publicKey === undefined ? await generateMachineKey() : undefined
    const publicKeyDer = made?.publicKeyDer ?? (await readPublicKey(options.publicKey ?? ''))
    await makeNewFolder(folder)
    try {
      // The key is on disk before anybody relies on it.
      if (made) await writeNewFile(join(folder, PROFILE_FILES.key), made.privateKeyPem, 0o600)
      await writeNewFile(join(folder, PROFILE_FILES.publicKey), pemOf(publicKeyDer), 0o644)
      const about = await requestCertificate(connection, folder, {
        name,
        publicKeyDer,
        lifetime: options.lifetime,
        fleetId,
      })
      const { address, notAfter } = about
      const withKey = made !== undefined
      await showResult(
        cli.io,
        'operator add',
        { name, folder, address, notAfter: notAfter.toISOString(), withKey },
        options.output,
        () => addedText(cli, name, folder, about, withKey, options),
      )
    } catch (error) {
      await rm(folder, { recursive: true, force: true })
      throw error
    }
  })
}

async function requestCertificate(
  { client, call }: Connection,
  folder: string,
  input: {
    readonly name: string
    readonly publicKeyDer: Uint8Array
    readonly lifetime: number | undefined
    readonly fleetId: string
  },
): Promise<ProfileAbout & { readonly notAfter: Date }> {
  const answer = await client.addOperator(
    {
      name: input.name,
      publicKey: input.publicKeyDer,
      ...(input.lifetime === undefined ? {} : { lifetime: durationFromMs(input.lifetime) }),
    },
    call,
  )
  const about = { name: input.name, address: answer.fleetAddress, fleetId: input.fleetId || 'none' }
  await writeFileDurably(join(folder, PROFILE_FILES.certificate), answer.chainPem, 0o644)
  await writeFileDurably(join(folder, PROFILE_FILES.authority), answer.authorityPem, 0o644)
  // Last, because a profile without it is none.
  await writeFileDurably(join(folder, PROFILE_FILES.about), `${JSON.stringify(about, undefined, 2)}\n`, 0o644)
  return { ...about, notAfter: new Date(millisOf(answer.notAfter) ?? Number.NaN) }
}

function addedText(
  cli: Cli,
  name: string,
  folder: string,
  about: ProfileAbout & { readonly notAfter: Date },
  withKey: boolean,
  { out }: AddOptions,
): string {
  const left = formatRemaining(about.notAfter.getTime() - cli.clock.now().getTime())
  const use =
    out === undefined
      ? `Use it here with --profile ${name}, or carry the folder to ~/.config/muster/operators/${name} elsewhere.`
      : `Carry the folder to ~/.config/muster/operators/${name} where it shall be used.`
  return (
    `operator ${name}: profile for ${escapeText(about.address)} written to ${folder}; its certificate lasts ${left}\n` +
    `${use}\n` +
    (withKey
      ? 'It holds a private key: whoever has it is this operator.\n'
      : `Its private key is not in it: put it beside the other files as ${PROFILE_FILES.key}, with mode 0600.\n`)
  )
}

async function makeNewFolder(folder: string): Promise<void> {
  await makeDirectories(dirname(folder), 0o700)
  try {
    await mkdir(folder, { mode: 0o700 })
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error
    throw new CliError(
      'conflict',
      `${folder}: is there already; \`muster operator renew\` renews it, --out FOLDER writes elsewhere`,
    )
  }
}

/** A public key in PEM: of its own, or of a certificate. Never a private one, which should not have come here. */
async function readPublicKey(file: string): Promise<Buffer> {
  const pem = await readFile(file, 'utf8').catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) throw new CliError('notFound', `${file}: no such file`)
    throw error
  })
  if (pem.includes('PRIVATE KEY')) {
    throw new CliError(
      'refused',
      `${file}: is a private key; only the public half is wanted here (openssl rsa -in KEY -pubout)`,
    )
  }
  let der: Buffer
  try {
    der = createPublicKey(pem).export({ type: 'spki', format: 'der' })
  } catch {
    throw new CliError('error', `${file}: holds no public key in PEM`)
  }
  const read = readRsaPublicKey(der)
  if (!read.ok) throw new CliError('error', `${file}: ${read.reason}`)
  return der
}

function pemOf(der: Uint8Array): string {
  return createPublicKey({ key: Buffer.from(der), format: 'der', type: 'spki' })
    .export({ type: 'spki', format: 'pem' })
    .toString()
}

/** Renews the certificate of the profile in use, with the key it has. */
export async function renewOperator(
  cli: Cli,
  { lifetime, output }: Pick<AddOptions, 'lifetime' | 'output'>,
): Promise<void> {
  await withCoordinator(cli, async connection => {
    const { profile } = connection
    if (!profile) {
      throw new CliError('usage', 'only a profile can be renewed: say which with --profile NAME')
    }
    const publicKeyDer = createPublicKey(createPrivateKey(profile.privateKeyPem)).export({
      type: 'spki',
      format: 'der',
    })
    const { name, fleetId, folder } = profile
    const { notAfter } = await requestCertificate(connection, folder, {
      name,
      publicKeyDer,
      lifetime,
      fleetId,
    })
    const until = notAfter.toISOString()
    const text = () => `operator ${name}: renewed until ${until}\n`
    await showResult(cli.io, 'operator renew', { name, notAfter: until }, output, text)
  })
}

function operatorListing(now: Date): Listing<Operator> {
  return {
    fields: OPERATOR_FIELDS,
    record: operator => plainOf(OperatorSchema, operator),
    empty: 'no operators; only root on the coordinator’s machine may command it',
    columns: [
      { title: 'OPERATOR', text: operator => operator.name },
      { title: 'STATE', text: operator => (operator.removed ? 'removed' : 'active') },
      {
        title: 'CERTIFICATE',
        text: operator => {
          const left = (millisOf(operator.notAfter) ?? 0) - now.getTime()
          return left > 0 ? `${formatRemaining(left)} left` : `expired ${formatDuration(-left)} ago`
        },
      },
      { title: 'KEY', text: operator => operator.id.slice(0, 12) },
      { title: 'FINGERPRINT', wide: true, text: operator => operator.id },
    ],
  }
}

export async function listOperators(
  cli: Cli,
  { output }: { readonly output?: Format | undefined },
): Promise<void> {
  await withCoordinator(cli, async ({ client, call }) => {
    const { operators } = await client.listOperators({}, call)
    await showList(cli.io, operators, operatorListing(cli.clock.now()), output)
  })
}

export async function removeOperator(
  cli: Cli,
  name: string,
  { output }: Pick<AddOptions, 'output'>,
): Promise<void> {
  await withCoordinator(cli, async ({ client, call }) => {
    await client.removeOperator({ name }, call)
    const text = () => `operator ${escapeText(name)}: removed; its certificate is refused from this moment\n`
    await showResult(cli.io, 'operator remove', { name, removed: true }, output, text)
  })
}
