import { join } from 'node:path'

/** What a coordinator's state folder holds. Everything of it that a backup carries is one of three items. */
export function stateLayout(stateDir: string) {
  return {
    store: join(stateDir, 'store.sqlite'),
    authority: join(stateDir, 'authority'),
    blobs: join(stateDir, 'blobs'),
    /** A restore that is being received, or was and waits for the restart. */
    incoming: join(stateDir, 'restore-incoming'),
  } as const
}

/** The names of the items below the state folder, in the order they are swapped. */
export const ITEMS = ['store.sqlite', 'authority', 'blobs'] as const
/** What SQLite keeps beside a store. With another store they would destroy it, so they move with their own. */
export const STORE_COMPANIONS = ['store.sqlite-wal', 'store.sqlite-shm'] as const
/** Stands in the incoming folder once everything in it was checked; nothing is swapped in without it. */
export const READY_MARKER = 'ready.json'
export const BEFORE_RESTORE = 'before-restore-'
export const OUTGOING = 'backup-outgoing-'
