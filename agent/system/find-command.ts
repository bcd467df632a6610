import { constants } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import { isAbsolute, join } from 'node:path'

/** The executable file a command name stands for, or undefined. Relative entries of the path are never searched. */
export async function findCommand(command: string, path: string): Promise<string | undefined> {
  if (command.includes('/')) return (await isExecutable(command)) ? command : undefined
  for (const folder of path.split(':')) {
    const candidate = join(folder, command)
    if (isAbsolute(folder) && (await isExecutable(candidate))) return candidate
  }
  return undefined
}

async function isExecutable(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK)
    return (await stat(path)).isFile()
  } catch {
    return false // not there, or not ours to run: the search goes on
  }
}
