import { reasonOf } from '../../shared/errors.ts'
import type { Finding } from './gate-answer.ts'

/** Codes that say something about this machine, and nothing about who was asked. */
const OWN_TROUBLE: ReadonlySet<string> = new Set([
  'EMFILE',
  'ENFILE',
  'ENOMEM',
  'ENOBUFS',
  'EADDRNOTAVAIL',
  'EAFNOSUPPORT',
  'EACCES',
  'EPERM',
])

/**
 * What a failed connection says. A name that cannot be looked up says nothing of who has it, and neither does a socket
 * that cannot be made here; refused, reset or unreachable is an answer.
 */
export function networkFinding(error: unknown, place: string): Finding {
  const [first = error] = error instanceof AggregateError ? error.errors : [error]
  const code = codeOf(first) ?? codeOf(error)
  if (isLookup(first)) {
    return { verdict: 'unavailable', reason: `${place}: the name could not be looked up (${code})` }
  }
  const verdict = code !== undefined && OWN_TROUBLE.has(code) ? 'unavailable' : 'unhealthy'
  return { verdict, reason: `${place}: ${code ?? reasonOf(first)}` }
}

function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined
}

function isLookup(error: unknown): boolean {
  return error instanceof Error && 'syscall' in error && error.syscall === 'getaddrinfo'
}
