import { gunzipSync, gzipSync } from 'node:zlib'
import { SPENT_TOKEN } from '../kubernetes/bootstrap-tokens.ts'

/** A join token of k0s is a kubeconfig, packed into one line: what it says matters, and nobody may lose a part of it. */
const MAX_UNPACKED = 64 * 1024
const TOKEN = /(\btoken:\s*"?)([a-z0-9]{6})\.([a-z0-9]{16})\b/

export type K0sTokenKind = 'controller' | 'worker'

export interface K0sToken {
  readonly id: string
  readonly kind: K0sTokenKind
  readonly kubeconfig: string
}

/** undefined: it is none. */
export function readK0sToken(text: string): K0sToken | undefined {
  const kubeconfig = unpack(text)
  const id = kubeconfig === undefined ? undefined : TOKEN.exec(kubeconfig)?.[2]
  if (kubeconfig === undefined || id === undefined || !kubeconfig.includes('certificate-authority-data'))
    return undefined
  if (/\bcontroller-bootstrap\b/.test(kubeconfig)) return { id, kind: 'controller', kubeconfig }
  return /\bkubelet-bootstrap\b/.test(kubeconfig) ? { id, kind: 'worker', kubeconfig } : undefined
}

/** The same token with a secret that opens nothing: some versions parse the file at every start. */
export function spendK0sToken({ kubeconfig }: K0sToken): string {
  return pack(kubeconfig.replace(TOKEN, `$1${SPENT_TOKEN}`))
}

/** A token that opens nothing, for a controller that never had one. `server` is a URL. */
export function spentK0sToken(authorityPem: string, server: string, kind: K0sTokenKind): string {
  const user = `${kind === 'controller' ? 'controller' : 'kubelet'}-bootstrap`
  return pack(`apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: ${Buffer.from(authorityPem).toString('base64')}
    server: ${server}
  name: k0s
contexts:
- context:
    cluster: k0s
    user: ${user}
  name: k0s
current-context: k0s
kind: Config
users:
- name: ${user}
  user:
    token: ${SPENT_TOKEN}
`)
}

function unpack(text: string): string | undefined {
  const line = text.trim()
  if (!/^[A-Za-z0-9+/]+=*$/.test(line)) return undefined
  try {
    return gunzipSync(Buffer.from(line, 'base64'), { maxOutputLength: MAX_UNPACKED }).toString('utf8')
  } catch {
    return undefined
  }
}

const pack = (text: string): string => gzipSync(text).toString('base64')
