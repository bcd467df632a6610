import { dirname, resolve } from 'node:path'
import { parse } from 'yaml'
import { at, isObject, listAt, textAt } from '../../../shared/read-value.ts'
import type { MutualTls } from '../ask-once.ts'

/** How an API server is reached, and as whom. */
export interface ApiAccess extends MutualTls {
  readonly url: URL
}

/** The bytes of a file that a kubeconfig names; undefined: they cannot be read. */
export type ReadNamedFile = (path: string) => Promise<Buffer | undefined>

const CLUSTER_KEYS: ReadonlySet<string> = new Set([
  'server',
  'certificate-authority',
  'certificate-authority-data',
])
const USER_KEYS: ReadonlySet<string> = new Set([
  'client-certificate',
  'client-certificate-data',
  'client-key',
  'client-key-data',
])

/**
 * What the current context of a kubeconfig says. undefined: it says anything beside an https server, an authority and a client's
 * certificate with its key (a token, a program to be run, a proxy), which is left to kubectl.
 */
export async function readKubeconfig(
  path: string,
  text: string,
  readFile: ReadNamedFile,
): Promise<ApiAccess | undefined> {
  const config: unknown = parse(text, { maxAliasCount: 0 })
  const context = namedIn(config, 'contexts', 'context', textAt(config, 'current-context'))
  const cluster = namedIn(config, 'clusters', 'cluster', textAt(context, 'cluster'))
  const user = namedIn(config, 'users', 'user', textAt(context, 'user'))
  if (!cluster || !user || !hasOnly(cluster, CLUSTER_KEYS) || !hasOnly(user, USER_KEYS)) return undefined
  const server = textAt(cluster, 'server') ?? ''
  if (!URL.canParse(server)) return undefined
  const url = new URL(server)
  const bare = url.pathname === '/' && url.search === '' && url.username === '' && url.password === ''
  if (url.protocol !== 'https:' || !bare) return undefined
  const bytesOf = async (where: Readonly<Record<string, unknown>>, key: string) => {
    const data = textAt(where, `${key}-data`)
    // As kubectl takes them: what is in the file itself comes before a file that it names, and nothing is as good as not there.
    if (data) return Buffer.from(data, 'base64')
    const named = textAt(where, key)
    return named ? await readFile(resolve(dirname(path), named)) : undefined
  }
  const ca = await bytesOf(cluster, 'certificate-authority')
  const cert = await bytesOf(user, 'client-certificate')
  const key = await bytesOf(user, 'client-key')
  return ca?.length && cert?.length && key?.length ? { url, ca, cert, key } : undefined
}

function namedIn(
  config: unknown,
  list: string,
  kind: string,
  name: string | undefined,
): Readonly<Record<string, unknown>> | undefined {
  const found = listAt(config, list)?.find(each => name !== undefined && textAt(each, 'name') === name)
  const value = at(found, kind)
  return isObject(value) ? value : undefined
}

function hasOnly(value: Readonly<Record<string, unknown>>, keys: ReadonlySet<string>): boolean {
  return Object.keys(value).every(key => keys.has(key))
}
