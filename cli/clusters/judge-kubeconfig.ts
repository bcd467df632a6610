import { parseDocument } from 'yaml'

export type KubeconfigVerdict =
  | { readonly kind: 'good'; readonly text: string }
  | { readonly kind: 'refused'; readonly reason: string }

/** What a kubeconfig with a certificate or a token needs, and all that it may have, level by level. */
const ROOT_KEYS = new Set([
  'apiVersion',
  'kind',
  'preferences',
  'clusters',
  'users',
  'contexts',
  'current-context',
])
const CLUSTER_KEYS = new Set(['server', 'certificate-authority-data', 'tls-server-name'])
const USER_KEYS = new Set(['client-certificate-data', 'client-key-data', 'token'])

/**
 * Whether a kubeconfig that a server made holds nothing but an address, an authority and a credential. Programs that it
 * names would be run by kubectl as the operator, files that it names would be read and sent: a server that was broken into
 * must not reach the operator's machine that way. Nothing but text comes onto a terminal.
 */
export function judgeKubeconfig(bytes: Uint8Array): KubeconfigVerdict {
  let text: string
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch {
    return refused('is not UTF-8 text')
  }
  if (/[^\P{Cc}\n\t]/u.test(text)) return refused('holds control characters')
  const document = parseDocument(text)
  if (document.errors.length > 0) return refused('is not YAML')
  let config: unknown
  try {
    config = document.toJS({ maxAliasCount: 0 }) // no aliases: what stands in one place could be meant in another
  } catch {
    return refused('refers from one place to another')
  }
  if (!isRecord(config)) return refused('is no object')
  const problem =
    strangerIn(config, ROOT_KEYS) ??
    listProblem(config, 'clusters', 'cluster', CLUSTER_KEYS) ??
    listProblem(config, 'users', 'user', USER_KEYS)
  return problem === undefined ? { kind: 'good', text } : refused(problem)
}

function listProblem(
  config: Readonly<Record<string, unknown>>,
  list: string,
  key: string,
  allowed: ReadonlySet<string>,
): string | undefined {
  const entries = config[list]
  if (!Array.isArray(entries) || entries.length === 0) return `has no ${list}`
  const entryKeys = new Set(['name', key])
  for (const entry of entries as readonly unknown[]) {
    if (!isRecord(entry)) return `has no object among its ${list}`
    const inner = entry[key]
    if (!isRecord(inner)) return `has one of ${list} without ${key}`
    const stranger = strangerIn(entry, entryKeys) ?? strangerIn(inner, allowed)
    if (stranger !== undefined) return `${stranger} (in ${list})`
  }
  return undefined
}

function strangerIn(
  record: Readonly<Record<string, unknown>>,
  allowed: ReadonlySet<string>,
): string | undefined {
  const stranger = Object.keys(record).find(name => !allowed.has(name))
  return stranger === undefined
    ? undefined
    : `has ${JSON.stringify(stranger.slice(0, 64))}, and only ${[...allowed].join(', ')} may be there`
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function refused(reason: string): KubeconfigVerdict {
  return { kind: 'refused', reason }
}
