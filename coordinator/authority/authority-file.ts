import { chmod, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import {
  makePrivateDirectory,
  readFileIfThere,
  syncDirectory,
  writeFileDurably,
} from '../../shared/durable-file.ts'
import { reasonOf } from '../../shared/errors.ts'
import { type Authority, type AuthorityMaterial, openAuthority } from '../../shared/x509/authority.ts'
import { rotationFault } from './rotation.ts'

/**
 * All authorities with their keys and the word which one issues, in one file: whatever changes, changes by one rename, so
 * no kill between two lines can leave a key without its certificate or a switch half made. Also what a backup copies.
 */
export const AUTHORITY_FILE = 'authorities.json'

/** What a write that was cut short leaves behind. It was never in use, because use follows the rename. */
const LEFTOVER = /^\.authorities\.json\.[0-9a-f]{12}\.tmp$/
const MAX_BYTES = 256 * 1024

const schema = z.strictObject({
  version: z.literal(1),
  issuing: z.string(),
  /** Oldest first. */
  authorities: z.array(z.strictObject({ privateKeyPem: z.string(), certificatePem: z.string() })),
})

export interface KeptAuthorities {
  readonly issuing: string
  readonly authorities: readonly { readonly material: AuthorityMaterial; readonly authority: Authority }[]
}

/**
 * Reads the authorities of a folder, or undefined where none was ever made: the folder is missing, empty, or holds but
 * the leftovers of a first start that was cut short. Anything that is there and cannot be used is an error, never a
 * reason to make a new authority: no enrolled machine would accept it.
 */
export async function readAuthorities(directory: string): Promise<KeptAuthorities | undefined> {
  const path = join(directory, AUTHORITY_FILE)
  await makePrivateDirectory(directory)
  await chmod(directory, 0o700)
  await removeLeftovers(directory)
  const bytes = await readFileIfThere(path)
  if (bytes === undefined) {
    const others = await readdir(directory)
    if (others.length === 0) return undefined
    throw new Error(
      `${path} is missing, but its folder holds ${others.slice(0, 5).join(', ')}: ` +
        `put ${AUTHORITY_FILE} back from a backup, or empty the folder to begin with a new authority`,
    )
  }
  const { mode } = await stat(path)
  if ((mode & 0o077) !== 0) {
    throw new Error(
      `${path} can be read by others (mode ${(mode & 0o777).toString(8)}): it holds the authority's key; ` +
        'if nobody can have copied it, chmod 600 it, else restore it and rotate the authority',
    )
  }
  try {
    return parseAuthorities(bytes)
  } catch (error) {
    throw new Error(
      `${path} is damaged: ${reasonOf(error)}; restore it from a backup. Without one, move it away: the coordinator then ` +
        'makes a new authority, and every machine must be given the new pin and enrol anew',
      { cause: error },
    )
  }
}

function parseAuthorities(bytes: Buffer): KeptAuthorities {
  if (bytes.length > MAX_BYTES) throw new Error(`${bytes.length} bytes, at most ${MAX_BYTES} are read`)
  const parsed = schema.safeParse(parseJson(bytes))
  if (!parsed.success) {
    const { path = [], message = 'not as written' } = parsed.error.issues[0] ?? {}
    throw new Error(`${path.join('.') || 'the whole'}: ${message}`)
  }
  const { issuing, authorities } = parsed.data
  const opened = authorities.map((material, index) => {
    try {
      return { material, authority: openAuthority(material) }
    } catch (error) {
      throw new Error(`authorities.${index}: ${reasonOf(error)}`, { cause: error })
    }
  })
  const fault = rotationFault({ trusted: opened.map(({ authority }) => authority.pin), issuing })
  if (fault !== undefined) throw new Error(fault)
  return { issuing, authorities: opened }
}

/** The text of a JSON error would show a piece of the file, which holds private keys. */
function parseJson(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'))
  } catch {
    throw new Error('not JSON, or cut short')
  }
}

export async function writeAuthorities(directory: string, kept: KeptAuthorities): Promise<void> {
  const content: z.infer<typeof schema> = {
    version: 1,
    issuing: kept.issuing,
    authorities: kept.authorities.map(({ material }) => material),
  }
  await writeFileDurably(join(directory, AUTHORITY_FILE), `${JSON.stringify(content, undefined, 2)}\n`, 0o600)
}

async function removeLeftovers(directory: string): Promise<void> {
  const leftovers = (await readdir(directory)).filter(name => LEFTOVER.test(name))
  if (leftovers.length === 0) return
  for (const name of leftovers) await rm(join(directory, name), { force: true })
  await syncDirectory(directory)
}
