import { createRequire } from 'node:module'
import type Database from 'better-sqlite3'

/** An open database file. */
export type SqliteDatabase = Database.Database

/**
 * The embedded database, whichever of two versions this Node can run. Version 12 is compiled against Node's own headers, and those
 * of Node 24.19 and later make it into a module that ends the process when the collector meets one of its statements; version 13
 * is bound by Node-API alone, for Node 22 and later, and crashes on Node 20. Both keep the same file.
 */
export const openSqlite: (path: string, options?: Database.Options) => SqliteDatabase = (path, options) =>
  new Constructor(path, options)

const NAME = Number(process.versions.node.split('.')[0]) >= 22 ? 'better-sqlite3-node24' : 'better-sqlite3'
// By require, since only the one that runs here may be loaded, before anything else is done. Its types are of 12, which fit.
const Constructor = createRequire(import.meta.url)(NAME) as typeof Database
