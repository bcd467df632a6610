import { mkdir, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { hasCode } from './errors.ts'

/**
 * Makes a folder and those above it that are missing; the outermost that was made, or undefined when all were there. Node's own
 * (`recursive`) never returns where a folder is there in which the kernel makes none, such as /proc.
 */
export async function makeDirectories(path: string, mode = 0o777): Promise<string | undefined> {
  try {
    await mkdir(path, { mode })
    return path
  } catch (error) {
    if (hasCode(error, 'EEXIST')) {
      if ((await stat(path)).isDirectory()) return undefined
      throw error
    }
    const parent = dirname(path)
    if (!hasCode(error, 'ENOENT') || parent === path) throw error
    const outermost = await makeDirectories(parent, mode)
    try {
      await mkdir(path, { mode })
    } catch (again) {
      // Somebody else was faster.
      if (!(hasCode(again, 'EEXIST') && (await stat(path)).isDirectory())) throw again
      return outermost
    }
    return outermost ?? path
  }
}
