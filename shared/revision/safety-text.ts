import { isIPv4, isIPv6 } from 'node:net'
import { parseHostPort } from '../host-port.ts'
import { MAX_ARGUMENT_CHARS, MAX_CONTAINS_CHARS, MAX_URL_CHARS } from './safety-bounds.ts'

// Texts that reach programs as arguments: each function says what would be right, and nothing when the text is good. None
// of them may begin with a dash, which a program would take for an option.

const unitShape =
  /^(?!-)[A-Za-z0-9:_.\\@-]{1,240}\.(service|socket|target|timer|mount|automount|path|device|swap|slice|scope)$/

export function unitNameProblem(name: string): string | undefined {
  if (!unitShape.test(name)) return 'write the name of a unit with its suffix, such as nginx.service'
  return /@\.[a-z]+$/.test(name) ? 'a template is never active itself; name an instance of it' : undefined
}

const domainShape =
  /^(?=.{1,253}$)[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\.?$/

/** A name or an IP address, without port and brackets. */
export function reachHostProblem(host: string): string | undefined {
  if (isIPv4(host) || (isIPv6(host) && !host.includes('%'))) return undefined
  const isName = domainShape.test(host) && !/^[0-9.]+$/.test(host)
  return isName ? undefined : 'write an IP address or a domain name, without scheme or port'
}

export function hostPortProblem(address: string): string | undefined {
  const cure = 'write host:port, an IPv6 address in brackets, such as 10.0.100.9:6443'
  const parsed = parseHostPort(address)
  return parsed === undefined || reachHostProblem(parsed.host) !== undefined ? cure : undefined
}

export function probeUrlProblem(text: string): string | undefined {
  const cure = `write a URL such as http://127.0.0.1:8080/health, at most ${MAX_URL_CHARS} characters`
  if (!/^https?:\/\/[!-~]+$/.test(text) || text.length > MAX_URL_CHARS) return cure
  let url: URL
  try {
    url = new URL(text)
  } catch {
    // What cannot be parsed is answered like any other wrong text.
    return cure
  }
  if (url.username !== '' || url.password !== '') {
    return 'who logs in by a URL shows it to every node; ask something that needs no login, or write a script'
  }
  return url.hash === '' ? undefined : 'leave out what follows #; it is never sent'
}

export function diskPathProblem(path: string): string | undefined {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this refuses
  if (!/^\/[^\u0000-\u001f\u007f]{0,1000}$/.test(path)) return 'write the absolute path of a folder'
  return path.split('/').includes('..') ? 'write it without ".."' : undefined
}

export function scriptPathProblem(path: string): string | undefined {
  const cure = 'write the path of a file in the fleet directory, such as checks/web.sh'
  if (!/^[A-Za-z0-9_.][A-Za-z0-9_./+-]{0,254}$/.test(path)) return cure
  const parts = path.split('/')
  return parts.some(part => part === '' || part === '.' || part === '..') ? cure : undefined
}

export function jobPathProblem(path: string): string | undefined {
  const isFile = scriptPathProblem(path) === undefined && /\.(ya?ml|json)$/.test(path)
  return isFile
    ? undefined
    : 'write the path of a YAML or JSON file in the fleet directory, such as gates/smoke.yaml'
}

export function argumentProblem(argument: string): string | undefined {
  const good = argument.length <= MAX_ARGUMENT_CHARS && !argument.includes('\0')
  return good ? undefined : `at most ${MAX_ARGUMENT_CHARS} characters, none of them NUL`
}

export function containsProblem(text: string): string | undefined {
  if (text === '') return 'every answer contains nothing; write what it must contain, or leave the key out'
  return text.length <= MAX_CONTAINS_CHARS ? undefined : `at most ${MAX_CONTAINS_CHARS} characters`
}
