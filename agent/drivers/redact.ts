/** What looks like a secret of any distribution: tokens of nodes and servers, keys, packed kubeconfigs. */
const SECRETS: readonly (readonly [RegExp, string])[] = [
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|$)/g, '[key]'],
  [/\bK10[0-9a-f]{16,}::?\S*/gi, '[token]'],
  [/\b[a-z0-9]{6}\.[a-z0-9]{16}\b/g, '[token]'],
  [/\b(token|password|secret)([=:]\s*)\S+/gi, '$1$2[secret]'],
  [/[A-Za-z0-9+/=_-]{160,}/g, '[long text]'],
]
const MAX_CHARS = 600

/** The end of what a program said, in one line, without anything that looks like a secret. */
export function redact(text: string): string {
  let safe = text
  for (const [pattern, shown] of SECRETS) safe = safe.replace(pattern, shown)
  const line = safe.trim().replace(/\s*\n\s*/g, '; ')
  return line.length <= MAX_CHARS ? line : `… ${line.slice(-MAX_CHARS)}`
}
