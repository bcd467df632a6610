import { at, isObject, readObject, textAt } from '../../shared/read-value.ts'
import { DISTRIBUTIONS } from './cluster-facts.ts'
import type { JoinSecret } from './driver.ts'

/** Leaves room for what sealing adds to it within its bound of 128 KiB. */
export const MAX_SECRET_BYTES = 96 * 1024
const MAX_FILES = 32

export function writeJoinSecret(secret: JoinSecret): string {
  return JSON.stringify({ ...secret, files: Object.fromEntries(secret.files) })
}

/** undefined: it is none. What is wrong with it is not said, since that would show of it. */
export function readJoinSecret(text: string): JoinSecret | undefined {
  if (Buffer.byteLength(text) > MAX_SECRET_BYTES) return undefined
  const value = readObject(text)
  const distribution = DISTRIBUTIONS.find(name => name === textAt(value, 'distribution'))
  const role = ROLES.find(name => name === textAt(value, 'role'))
  const server = textAt(value, 'server')
  const token = textAt(value, 'token')
  const files = readFiles(at(value, 'files'))
  if (!value || !distribution || !role || !files || server === undefined || token === undefined)
    return undefined
  // Goes into files of environment variables and into one-line files.
  if (!/^[!-~]{1,300}$/.test(server) || !/^[!-~]*$/.test(token)) return undefined
  const agentToken = textAt(value, 'agentToken')
  const initialCluster = textAt(value, 'initialCluster')
  for (const each of [agentToken, initialCluster]) {
    if (each !== undefined && !/^[!-~]+$/.test(each)) return undefined
  }
  const clusterVersion = textAt(value, 'clusterVersion')
  return { distribution, role, server, token, agentToken, files, initialCluster, clusterVersion }
}

const ROLES = ['server', 'worker', 'server+worker'] as const

function readFiles(value: unknown): ReadonlyMap<string, string> | undefined {
  if (!isObject(value)) return undefined
  const files = new Map<string, string>()
  for (const [name, text] of Object.entries(value)) {
    // The names of authorities and keys, and nothing that leads elsewhere.
    if (typeof text !== 'string' || !/^(etcd\/)?[a-z-]{1,40}\.(crt|key|pub)$/.test(name)) return undefined
    files.set(name, text)
  }
  return files.size <= MAX_FILES ? files : undefined
}
