import { X509Certificate } from 'node:crypto'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { readFileIfThere } from '../shared/durable-file.ts'
import { hasCode, reasonOf } from '../shared/errors.ts'
import { CliError } from './exit-codes.ts'
import { readPrivateFile } from './fleets/private-file.ts'

/** What a folder of an operator's profile holds. */
export interface Profile {
  readonly folder: string
  readonly name: string
  /** host:port of the fleet listener. */
  readonly address: string
  readonly fleetId: string
  readonly privateKeyPem: string
  readonly chainPem: string
  readonly caPem: string
  readonly notAfter: Date
}

export const PROFILE_FILES = {
  about: 'operator.json',
  key: 'key.pem',
  publicKey: 'public.pem',
  certificate: 'certificate.pem',
  authority: 'ca.pem',
} as const

export function profilesFolder(configHome: string): string {
  return join(configHome, 'operators')
}

export function profileFolder(configHome: string, name: string): string {
  if (!isOperatorName(name)) {
    throw new CliError(
      'usage',
      `profile ${JSON.stringify(name)}: a name has lower-case letters, digits and -`,
    )
  }
  return join(profilesFolder(configHome), name)
}

export function isOperatorName(name: string): boolean {
  return /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/.test(name)
}

/** The names of all profiles on this machine, sorted. */
export async function listProfiles(configHome: string): Promise<string[]> {
  try {
    const entries = await readdir(profilesFolder(configHome), { withFileTypes: true })
    return entries
      .filter(entry => entry.isDirectory() && isOperatorName(entry.name))
      .map(entry => entry.name)
      .sort()
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return []
    throw error
  }
}

/** What operator.json says. */
export interface ProfileAbout {
  readonly name: string
  readonly address: string
  readonly fleetId: string
}

/** Reads a profile and checks that its certificate can still be used. */
export async function readProfile(folder: string, now: Date): Promise<Profile> {
  const read = async (file: string): Promise<string> => {
    const bytes = await readFileIfThere(join(folder, file))
    if (bytes) return bytes.toString()
    throw new CliError(
      'notFound',
      `${join(folder, file)}: no such file; \`muster operator add NAME\` at the coordinator writes a profile`,
    )
  }
  const about = parseAbout(await read(PROFILE_FILES.about), join(folder, PROFILE_FILES.about))
  const chainPem = await read(PROFILE_FILES.certificate)
  const notAfter = expiryOf(chainPem, join(folder, PROFILE_FILES.certificate))
  if (!(notAfter > now)) {
    throw new CliError(
      'refused',
      `${join(folder, PROFILE_FILES.certificate)}: expired at ${notAfter.toISOString()}\n` +
        `Renew it on the coordinator's machine: muster operator add ${about.name} --public-key ${join(folder, PROFILE_FILES.publicKey)} --out NEW, ` +
        `and copy NEW/${PROFILE_FILES.certificate} and NEW/${PROFILE_FILES.authority} here.`,
    )
  }
  return {
    folder,
    ...about,
    privateKeyPem: await readPrivateFile(
      join(folder, PROFILE_FILES.key),
      'the key stays with whoever made it: copy it here with mode 0600',
    ),
    chainPem,
    caPem: await read(PROFILE_FILES.authority),
    notAfter,
  }
}

function parseAbout(text: string, place: string): ProfileAbout {
  let about: unknown
  try {
    about = JSON.parse(text)
  } catch (error) {
    throw new CliError('error', `${place}: ${reasonOf(error)}`)
  }
  if (typeof about !== 'object' || about === null) throw new CliError('error', `${place}: must be an object`)
  const field = (key: string) => {
    const value: unknown = Object.getOwnPropertyDescriptor(about, key)?.value
    if (typeof value === 'string' && value !== '') return value
    throw new CliError('error', `${place}: ${key}: must be a text`)
  }
  const name = field('name')
  if (!isOperatorName(name)) throw new CliError('error', `${place}: name: is no operator's name`)
  const address = field('address')
  if (!/^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):\d{1,5}$/.test(address)) {
    throw new CliError('error', `${place}: address: must be host:port or [IPv6]:port`)
  }
  return { name, address, fleetId: field('fleetId') }
}

function expiryOf(chainPem: string, place: string): Date {
  try {
    return new Date(new X509Certificate(chainPem).validTo)
  } catch {
    throw new CliError('error', `${place}: holds no certificate in PEM`)
  }
}
