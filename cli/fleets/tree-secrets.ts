import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { join } from 'node:path'
import type { Problem } from '../../shared/fleet-file/problem.ts'
import { secretCure } from '../../shared/fleet-file/secrets.ts'
import { findSecretsIn, NO_SECRET } from '../../shared/tree/find-secrets.ts'
import { listTree } from '../../shared/tree/list-tree.ts'
import { FLEET_FILE } from './read-fleet-directory.ts'

/** So much of each file is looked at: no secret of these kinds comes after a megabyte of text. */
const MAX_BYTES = 1024 * 1024
/** What has such a byte at its beginning is no text. */
const LOOKED_AT_FOR_NUL = 8 * 1024
const MAX_FOUND = 100

/**
 * What looks like a secret in the files that a fleet directory is packed of: in source mode every node reads all of them. The fleet file
 * is looked through where it is read. Throws as `listTree` does.
 */
export async function findTreeSecrets(dir: string): Promise<readonly Problem[]> {
  const problems: Problem[] = []
  for (const { kind, path } of (await listTree(dir)).entries) {
    if (kind !== 'file' || path === FLEET_FILE) continue
    const file = join(dir, path)
    const text = await readText(file)
    for (const { what, line, column } of text === undefined ? [] : findSecretsIn(text)) {
      const message = `this looks like ${what}; ${secretCure}. Where it is none, say ${NO_SECRET} on that line or the one above`
      problems.push({ file, line, column, path: '', severity: 'error', message })
      if (problems.length === MAX_FOUND) return problems
    }
  }
  return problems
}

/** The beginning of a file; undefined: it is no text, or gone, which is told where it is packed. */
async function readText(file: string): Promise<string | undefined> {
  const handle = await open(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    () => undefined,
  )
  if (!handle) return undefined
  try {
    const { size } = await handle.stat()
    const buffer = Buffer.alloc(Math.min(size, MAX_BYTES))
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, 0)
    const bytes = buffer.subarray(0, bytesRead)
    return bytes.subarray(0, LOOKED_AT_FOR_NUL).includes(0) ? undefined : bytes.toString('utf8')
  } finally {
    await handle.close()
  }
}

export const withSecrets = (dir: string, count: number): string =>
  `${dir}: ${count === 1 ? 'a secret lies' : 'secrets lie'} in its files, so it cannot be published`
