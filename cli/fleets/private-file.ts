import { open, readFile, rm, stat } from 'node:fs/promises'
import { hasCode } from '../../shared/errors.ts'
import { CliError } from '../exit-codes.ts'

/** Reads a file that holds a secret, and refuses one that others may read. */
export async function readPrivateFile(path: string, missing: string): Promise<string> {
  try {
    const { mode } = await stat(path)
    if ((mode & 0o077) !== 0) {
      throw new CliError(
        'refused',
        `${path}: others than its owner may read it (mode ${(mode & 0o777).toString(8)}); if nobody did: chmod 600 ${path}`,
      )
    }
    return await readFile(path, 'utf8')
  } catch (error) {
    if (hasCode(error, 'ENOENT')) throw new CliError('notFound', `${path}: no such file; ${missing}`)
    if (hasCode(error, 'EACCES')) throw new CliError('refused', `${path}: may not be read by you`)
    throw error
  }
}

/** Writes a new file durably; one that is there already is never replaced. */
export async function writeNewFile(path: string, data: string | Uint8Array, mode: number): Promise<void> {
  await makeNewFile(path, mode, async () => data)
}

/**
 * The same for what is made once its place is taken, so that nothing is made that could not be kept. Without data, and after a
 * failure, there is no file. Says whether there is one.
 */
export async function makeNewFile(
  path: string,
  mode: number,
  make: () => Promise<string | Uint8Array | undefined>,
): Promise<boolean> {
  let handle: Awaited<ReturnType<typeof open>>
  try {
    handle = await open(path, 'wx', mode)
  } catch (error) {
    if (hasCode(error, 'EEXIST'))
      throw new CliError('conflict', `${path}: is there already; it is not overwritten`)
    if (hasCode(error, 'ENOENT')) throw new CliError('notFound', `${path}: its folder does not exist`)
    throw error
  }
  let isKept = false
  try {
    const data = await make()
    if (data === undefined) return false
    await handle.writeFile(data)
    await handle.sync()
    isKept = true
    return true
  } finally {
    await handle.close()
    if (!isKept) await rm(path, { force: true })
  }
}
