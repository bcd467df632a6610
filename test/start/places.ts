import { mkdir, mkdtemp, readdir, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'

/** A temporary folder that goes with its test. Short, because sockets lie in it. */
export async function temporaryFolder(): Promise<{ readonly path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), 'ms-'))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true, maxRetries: 3 }) }
}

/** A PATH with everything that this machine's has, but for some programs. */
export async function pathWithout(folder: string, left: RegExp): Promise<string> {
  const bin = join(folder, 'bin')
  await mkdir(bin)
  for (const place of (process.env.PATH ?? '').split(delimiter)) {
    for (const name of await readdir(place).catch(() => [])) {
      // The first in PATH counts.
      if (!left.test(name)) await symlink(join(place, name), join(bin, name)).catch(() => {})
    }
  }
  return bin
}
