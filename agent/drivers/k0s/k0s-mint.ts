import { isIP } from 'node:net'
import { at, type JsonObject, textAt } from '../../../shared/read-value.ts'
import { isServerRole } from '../cluster-facts.ts'
import type { Minted, MintRequest } from '../driver.ts'
import { type Distributed, hostOf, ownAddress } from '../driver-base.ts'
import { createTokenSecret, deleteTokensOf, describeToken } from '../kubernetes/bootstrap-tokens.ts'
import { done, failed, type Result } from '../result.ts'
import { runProgram } from '../run-program.ts'
import { readK0sStatus } from './k0s-status.ts'
import { type K0sToken, type K0sTokenKind, readK0sToken } from './k0s-token.ts'
import { JOIN_PORT, K0S_PKI } from './k0s-unit.ts'

const CALL_MS = 60_000
/** A token and its secret are a few kilobytes; below the folder of secrets, for root alone. */
const FOLDER = 'minting'

/**
 * Mints a token that says from its first moment for which operation it is. `k0s token create` makes one that says nothing:
 * whatever broke between that and a description of it would leave a token that nobody could tell from a person's own. So k0s
 * only prepares it, and what it prepared goes into the cluster with its description in one piece.
 */
export async function mintK0sToken(
  of: Distributed,
  request: MintRequest,
  signal?: AbortSignal,
): Promise<Result<Minted>> {
  const { deps, kubectl } = of
  const { facts } = deps
  const { node, role, operation, lifetimeMs } = request
  const address = facts.endpoint ?? (await ownAddress(deps))
  if (address === undefined) return failed('precondition', 'the address of this server is not known yet')
  const cleared = await deleteTokensOf(kubectl, operation, signal)
  if (cleared.kind === 'failed') return cleared
  const kind = isServerRole(role) ? 'controller' : 'worker'
  const url = await askJoinUrl(of, kind, signal)
  if (url.kind === 'failed') return url
  const prepared = await prepare(of, { operation, kind, url: url.value, lifetimeMs }, signal)
  if (prepared.kind === 'failed') return prepared
  const { token, text, secret } = prepared.value
  const created = await createTokenSecret(kubectl, secret, describeToken(operation, node), signal)
  if (created.kind === 'failed') return created
  return done({
    secret: {
      distribution: 'k0s',
      role,
      server: `${hostOf(address)}:${facts.apiPort}`,
      token: text,
      agentToken: undefined,
      files: new Map(),
      initialCluster: undefined,
    },
    tokenId: token.id,
  })
}

/** Where a joiner is to show its token, as the k0s that runs here would write it into one; a Failure where nothing can join it. */
async function askJoinUrl(
  of: Distributed,
  kind: K0sTokenKind,
  signal?: AbortSignal,
): Promise<Result<string>> {
  const status = await readK0sStatus(of, signal)
  if (status.kind === 'failed') return status
  const { single, spec } = status.value
  if (single) return failed('precondition', 'nothing joins a k0s that runs as `single`')
  if (kind === 'controller' && (textAt(spec, 'storage', 'type') ?? 'etcd') !== 'etcd')
    return failed('precondition', 'no controller joins a k0s whose storage is not etcd')
  const url = joinUrl(at(spec, 'api'), kind)
  return url === undefined ? failed('unreadable', 'k0s status: says no address of its API') : done(url)
}

/** By `spec.api`: its external address may bring a port of its own, which then holds for workers and controllers. */
export function joinUrl(api: unknown, kind: K0sTokenKind): string | undefined {
  const own = textAt(api, 'externalAddress') ?? ''
  const host = own === '' ? textAt(api, 'address') : own
  if (host === undefined || host === '') return undefined
  if (isIP(host) === 0 && /:\d+$/.test(host)) return `https://${host}`
  const port = kind === 'controller' ? at(api, 'k0sApiPort') : at(api, 'port')
  const usual = kind === 'controller' ? JOIN_PORT : 6443
  return `https://${hostOf(host)}:${typeof port === 'number' && port > 0 ? port : usual}`
}

interface Prepared {
  readonly token: K0sToken
  /** As it is given to the joiner. */
  readonly text: string
  /** What makes it count in the cluster. */
  readonly secret: JsonObject
}

interface Preparing {
  readonly operation: string
  readonly kind: K0sTokenKind
  readonly url: string
  readonly lifetimeMs: number
}

/** Has k0s write a token and its secret; both are read, and lie nowhere afterwards. */
async function prepare(
  { deps: { files }, programs }: Distributed,
  { operation, kind, url, lifetimeMs }: Preparing,
  signal?: AbortSignal,
): Promise<Result<Prepared>> {
  const folder = `${files.runDir}/${FOLDER}/${operation}`
  // What an agent that was killed left there went into no cluster.
  await files.remove(folder)
  await files.makeFolder(folder)
  try {
    // Without an end it would live for ever.
    const valid = `--valid=${Math.ceil(lifetimeMs / 1000)}s`
    const about = [`--role=${kind}`, `--cert=${K0S_PKI}/ca.crt`, `--url=${url}`, valid, `--out=${folder}`]
    const args = ['token', 'pre-shared', ...about]
    const made = await runProgram(programs, 'k0s', { args, deadlineMs: CALL_MS, signal })
    if (made.kind === 'failed') return made
    const unreadable = failed('unreadable', `k0s token pre-shared: wrote no token for a ${kind}`)
    const names = await files.list(folder)
    const read = async (name: string | undefined) =>
      name === undefined ? undefined : (await files.read(`${folder}/${name}`))?.toString('utf8').trim()
    const text = await read(names.find(name => name.startsWith('token_')))
    const token = text === undefined ? undefined : readK0sToken(text)
    const written = await read(names.find(name => name.endsWith('.yaml')))
    if (text === undefined || token?.kind !== kind || written === undefined) return unreadable
    // Loaded when it is needed: an agent that is idle holds no reader of YAML.
    const { readManifests } = await import('../kubernetes/read-manifests.ts')
    const objects = readManifests(new Map([['k0s token pre-shared', written]]))
    if (objects.kind === 'failed') return objects
    const [secret] = objects.value
    if (textAt(secret, 'metadata', 'name') !== `bootstrap-token-${token.id}` || secret === undefined)
      return unreadable
    return done({ token, text, secret })
  } finally {
    await files.remove(folder)
  }
}
