import type { Io } from '../io.ts'
import type { Format } from './format.ts'
import type { Plain } from './plain.ts'
import { showOne } from './show-list.ts'

/** The fields of what commands that change something write for programs, in order; the reference tells what they mean. */
export const RESULT_FIELDS = {
  unbind: ['host'],
  'token revoke': ['id', 'revoked'],
  'trust set': ['trustNumber', 'trustPin'],
  'trust confirm': ['confirmed'],
  'trust rotate keys': ['trustNumber', 'trustPin', 'keys', 'threshold', 'signingKey', 'replacedKey'],
  'trust rotate ca': ['trustNumber', 'trustPin', 'caPins', 'issuing'],
  'operator add': ['name', 'folder', 'address', 'notAfter', 'withKey'],
  'operator renew': ['name', 'notAfter'],
  'operator remove': ['name', 'removed'],
  init: ['directory', 'name', 'fleetId', 'signingKey', 'recoveryKey', 'trustFile', 'trustPin'],
  publish: ['number', 'manifestDigest', 'unchanged', 'treeDigest', 'treeLength', 'file'],
  import: ['number', 'manifestDigest', 'unchanged', 'cacheFiles'],
  'rollout accept': ['accepted'],
  lock: ['kind', 'host', 'why'],
  unlock: ['kind', 'host', 'removed'],
  pin: ['kind', 'host', 'revision', 'until', 'why'],
  unpin: ['kind', 'host', 'removed'],
  backup: ['file', 'bytes'],
  restore: ['file', 'summary'],
  version: ['version'],
} as const satisfies Readonly<Record<string, readonly string[]>>

export type ResultName = keyof typeof RESULT_FIELDS

/** Writes what a command did: as data, or as the text that `human` makes. */
export async function showResult<N extends ResultName>(
  io: Io,
  _name: N,
  record: { readonly [K in (typeof RESULT_FIELDS)[N][number]]: Plain },
  format: Format | undefined,
  human: () => string,
): Promise<void> {
  await showOne(io, record, format, human)
}
