import { open, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { makePrivateDirectory, writeFileDurably } from '../../shared/durable-file.ts'
import { hasCode } from '../../shared/errors.ts'
import { readIdentity } from '../identity/machine-identity.ts'
import { MAX_SEALED_BYTES, openFile } from './sealed-file.ts'

/** Where units of Kubernetes look for what the agent gives them; a boot empties it. */
export const CLUSTER_RUN_DIR = '/run/muster-cluster'
/** Below the agent's state: what a boot opens again. */
export const sealedDirectory = (stateDir: string): string => join(stateDir, 'cluster', 'sealed')
/** The file that the units' condition asks for. */
export const READY = 'ready'
const MAX_FILES = 64

/** What became of the secrets at a boot. */
export type OpenedSecrets =
  /** Nothing was kept: the machine is in no cluster, and its units stay down. */
  | { readonly kind: 'none' }
  | { readonly kind: 'opened'; readonly names: readonly string[] }
  /** Nothing says to the units that they may start. */
  | { readonly kind: 'failed'; readonly reasons: readonly string[] }

/**
 * Opens the secrets of the cluster for its units, at a boot, without network or coordinator. Whole or not at all: the file
 * that the units wait for is written last, and only when each of the others was opened.
 */
export async function openClusterSecrets(
  stateDir: string,
  runDir: string = CLUSTER_RUN_DIR,
): Promise<OpenedSecrets> {
  const directory = sealedDirectory(stateDir)
  const names = await listNames(directory)
  if (names.length === 0) return { kind: 'none' }
  if (names.length > MAX_FILES) {
    return {
      kind: 'failed',
      reasons: [`${directory}: holds ${names.length} files, at most ${MAX_FILES} are opened`],
    }
  }
  const identity = await readIdentity(stateDir)
  if (!identity) return { kind: 'failed', reasons: [`${stateDir}: has no key to open ${directory} with`] }

  const opened: { readonly name: string; readonly bytes: Buffer }[] = []
  const reasons: string[] = []
  for (const name of names) {
    const result = openFile(identity.privateKeyPem, name, await readBounded(join(directory, name)))
    if (result.kind === 'opened') opened.push({ name, bytes: result.bytes })
    else reasons.push(`${join(directory, name)}: ${result.reason}`)
  }
  if (reasons.length > 0) return { kind: 'failed', reasons }
  await makePrivateDirectory(runDir)
  for (const { name, bytes } of lastReady(opened)) await writeFileDurably(join(runDir, name), bytes)
  return { kind: 'opened', names }
}

/** Without what a write that was cut short left behind. */
async function listNames(directory: string): Promise<string[]> {
  try {
    const entries = await readdir(directory, { withFileTypes: true })
    return entries
      .flatMap(entry => (entry.isFile() && !entry.name.startsWith('.') ? [entry.name] : []))
      .sort()
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return []
    throw error
  }
}

/** One byte more than a sealed file may have is enough to refuse it. */
async function readBounded(path: string): Promise<Buffer> {
  const handle = await open(path, 'r')
  try {
    const buffer = Buffer.alloc(MAX_SEALED_BYTES + 1)
    let length = 0
    for (;;) {
      const { bytesRead } = await handle.read(buffer, length, buffer.length - length, length)
      length += bytesRead
      if (bytesRead === 0 || length === buffer.length) return buffer.subarray(0, length)
    }
  } finally {
    await handle.close()
  }
}

const lastReady = <T extends { readonly name: string }>(files: readonly T[]): readonly T[] =>
  files.toSorted((a, b) => Number(a.name === READY) - Number(b.name === READY))
