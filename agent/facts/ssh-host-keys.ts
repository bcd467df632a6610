import { compare } from './memory-facts.ts'
import type { Source } from './source.ts'

const MAX_KEYS = 8
const FOLDER = '/etc/ssh'

/** The host's SSH public keys without their comments. A machine without an SSH server has none. */
export async function collectSshHostKeys(source: Source): Promise<string[]> {
  const keys: string[] = []
  for (const name of await source.names(FOLDER)) {
    if (!/^ssh_host_[a-z0-9_]{1,32}_key\.pub$/.test(name)) continue
    const key = parsePublicKey((await source.text(`${FOLDER}/${name}`)) ?? '')
    if (key === undefined) source.warn(`${FOLDER}/${name}: no SSH public key`)
    else keys.push(key)
  }
  return [...new Set(keys)].sort(compare).slice(0, MAX_KEYS)
}

/** "type base64" when the bytes begin with the same type, as every SSH key does. */
function parsePublicKey(line: string): string | undefined {
  const match = /^([a-z0-9@.-]{1,64}) ([A-Za-z0-9+/]{1,2800}={0,2})(?: [^\n]*)?\n?$/.exec(line)
  if (match?.[1] === undefined || match[2] === undefined) return undefined
  const bytes = Buffer.from(match[2], 'base64')
  if (bytes.length < 4) return undefined
  const type = bytes.subarray(4, 4 + bytes.readUInt32BE(0)).toString('latin1')
  return type === match[1] ? `${match[1]} ${match[2]}` : undefined
}
