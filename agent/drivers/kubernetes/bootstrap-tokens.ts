import { randomBytes } from 'node:crypto'
import { type JsonObject, textAt } from '../../../shared/read-value.ts'
import type { ListedToken } from '../driver.ts'
import { DONE, done, failed, type Result } from '../result.ts'
import { isNotFound, type Kubectl } from './kubectl.ts'

/**
 * Bootstrap tokens are secrets of the cluster, whichever distribution made them. Listing and deleting go to the API itself:
 * what a distribution's own command prints about a deletion is no proof of it.
 */
const SECRETS = '/api/v1/namespaces/kube-system/secrets'
const MAX_TOKENS = 5_000

export async function listBootstrapTokens(
  kubectl: Kubectl,
  signal?: AbortSignal,
): Promise<Result<readonly ListedToken[]>> {
  const path = `${SECRETS}?fieldSelector=${encodeURIComponent('type=bootstrap.kubernetes.io/token')}`
  const secrets = await kubectl.list(path, MAX_TOKENS, signal)
  if (secrets.kind === 'failed') return secrets
  const tokens = secrets.value.flatMap(secret => readToken(secret) ?? [])
  return tokens.length === secrets.value.length
    ? done(tokens)
    : failed('unreadable', 'kube-system: a bootstrap token has no id, or an end that is no time')
}

function readToken(secret: JsonObject): ListedToken | undefined {
  const field = (key: string) => {
    const text = textAt(secret, 'data', key)
    return text === undefined ? undefined : Buffer.from(text, 'base64').toString('utf8')
  }
  const id = field('token-id')
  const end = field('expiration')
  const expiresMs = end === undefined ? undefined : Date.parse(end)
  if (id === undefined || !isTokenId(id) || Number.isNaN(expiresMs)) return undefined
  return { id, expiresMs, description: field('description') ?? '' }
}

export const isTokenId = (text: string): boolean => /^[a-z0-9]{6}$/.test(text)

/** Deletes a token, and looks whether it is gone. */
export async function deleteBootstrapToken(
  kubectl: Kubectl,
  id: string,
  signal?: AbortSignal,
): Promise<Result<void>> {
  if (!isTokenId(id))
    return failed('not-found', 'is no id of a token: wanted six lower-case letters and digits')
  const removed = await kubectl.remove(`${SECRETS}/bootstrap-token-${id}`, undefined, signal)
  if (removed.kind === 'failed' && !isNotFound(removed)) return removed
  const listed = await listBootstrapTokens(kubectl, signal)
  if (listed.kind === 'failed') return listed
  return listed.value.some(token => token.id === id)
    ? failed('command', `token ${id} is still listed after it was deleted`)
    : DONE
}

/** Deletes what was minted for an operation before: a secret that nobody has any more cannot be shown again. */
export async function deleteTokensOf(
  kubectl: Kubectl,
  operation: string,
  signal?: AbortSignal,
): Promise<Result<void>> {
  const listed = await listBootstrapTokens(kubectl, signal)
  if (listed.kind === 'failed') return listed
  for (const { id, description } of listed.value) {
    if (!description.startsWith(`${describeToken(operation, '')}`)) continue
    const deleted = await deleteBootstrapToken(kubectl, id, signal)
    if (deleted.kind === 'failed') return deleted
  }
  return DONE
}

/** What a token says of itself in the cluster. */
export const describeToken = (operation: string, node: string): string => `muster ${operation} for ${node}`

/** Makes a token of a secret that a distribution's own command wrote; it is described from its first moment. */
export async function createTokenSecret(
  kubectl: Kubectl,
  secret: JsonObject,
  description: string,
  signal?: AbortSignal,
): Promise<Result<void>> {
  if (textAt(secret, 'type') !== 'bootstrap.kubernetes.io/token')
    return failed('unreadable', 'what was written for a token is no secret of one')
  const created = await kubectl.create(SECRETS, { ...secret, stringData: { description } }, signal)
  return created.kind === 'failed' ? created : DONE
}

const LETTERS = 'abcdefghijklmnopqrstuvwxyz0123456789'

function randomLetters(count: number): string {
  let text = ''
  while (text.length < count) {
    // 252 is a multiple of 36: above it letters would not be equally likely.
    for (const byte of randomBytes(count * 2))
      if (byte < 252 && text.length < count) text += LETTERS[byte % 36]
  }
  return text
}

export interface NewToken {
  readonly id: string
  readonly text: string
}

/** Makes a bootstrap token for a kubelet. Its secret reaches the API server by standard input. */
export async function createKubeletToken(
  kubectl: Kubectl,
  description: string,
  expires: Date,
  signal?: AbortSignal,
): Promise<Result<NewToken>> {
  const id = randomLetters(6)
  const secret = randomLetters(16)
  const made = await kubectl.create(
    SECRETS,
    {
      apiVersion: 'v1',
      kind: 'Secret',
      type: 'bootstrap.kubernetes.io/token',
      metadata: { name: `bootstrap-token-${id}`, namespace: 'kube-system' },
      stringData: {
        'token-id': id,
        'token-secret': secret,
        expiration: expires.toISOString().replace(/\.\d+Z$/, 'Z'),
        description,
        'usage-bootstrap-authentication': 'true',
        'auth-extra-groups': KUBELET_GROUP,
      },
    },
    signal,
  )
  return made.kind === 'failed' ? made : done({ id, text: `${id}.${secret}` })
}

/** The group of kubelets that join, as kubeadm names it. */
export const KUBELET_GROUP = 'system:bootstrappers:kubeadm:default-node-token'

/** In the form of a token, and none: what is left in a file when the token was used. */
export const SPENT_TOKEN = 'spent0.0000000000000000'
