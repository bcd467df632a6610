import { open, readdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../../shared/clock.ts'
import { makePrivateDirectory, syncDirectory } from '../../shared/durable-file.ts'
import { type BackupSource, makeBackup } from './make-backup.ts'

/** Backups of this kind that stay, besides those that an operator took. */
const KEPT = 5
const PREFIX = 'before-'

/** Copies of the coordinator, made before its own host is changed. */
export interface OwnHostBackup {
  /** Writes a backup for the operation that is to come; says where. */
  make(operation: string): Promise<string>
  /** Afterwards: the backup stays when the operation was ordered, and the oldest go; else it goes itself. */
  settle(backup: { readonly path: string }, ordered: boolean): Promise<void>
}

/** Keeps them in `backups` of the state folder, for root alone: they hold the authority's key. */
export function ownHostBackup(source: BackupSource & { readonly clock: Clock }): OwnHostBackup {
  const folder = join(source.stateDir, 'backups')
  return {
    async make(operation) {
      await makePrivateDirectory(folder)
      const path = join(folder, `${PREFIX}${operation}`)
      const partial = `${path}.partial`
      await rm(partial, { force: true })
      await using file = await openForWriting(partial)
      for await (const chunk of makeBackup(source, source.clock.now())) await file.handle.writeFile(chunk)
      await file.handle.sync()
      await rename(partial, path)
      await syncDirectory(folder)
      return path
    },
    async settle({ path }, ordered) {
      if (!ordered) return await rm(path, { force: true })
      // Operations' ids begin with the time, so that names sort by age.
      const names = (await readdir(folder)).filter(name => name.startsWith(PREFIX)).toSorted()
      for (const name of names.slice(0, -KEPT)) await rm(join(folder, name), { force: true })
    },
  }
}

async function openForWriting(path: string) {
  const handle = await open(path, 'wx', 0o600)
  return { handle, [Symbol.asyncDispose]: () => handle.close() }
}
