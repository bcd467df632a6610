export type PortProtocol = 'tcp' | 'tcp6' | 'udp' | 'udp6'

export interface ListeningSocket {
  readonly protocol: PortProtocol
  readonly address: string
  readonly port: number
  readonly uid: number
}

/** TCP_LISTEN, and for UDP a socket without a peer. */
const LISTENS: Readonly<Record<string, string>> = { tcp: '0A', tcp6: '0A', udp: '07', udp6: '07' }

/** The sockets of a table of /proc/net that wait for somebody. */
export function parseSockets(protocol: PortProtocol, text: string): readonly ListeningSocket[] {
  return text.split('\n').flatMap(line => {
    //  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
    const [, local, , state, , , , uid] = line.trim().split(/\s+/)
    const [, hex, portHex] = /^([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4})$/.exec(local ?? '') ?? []
    if (hex === undefined || portHex === undefined || state !== LISTENS[protocol]) return []
    return [{ protocol, address: addressOf(hex), port: Number.parseInt(portHex, 16), uid: Number(uid) }]
  })
}

/** The kernel prints words of 32 bits in the machine's own order: little-endian on all we run on. */
function addressOf(hex: string): string {
  const bytes = (hex.match(/.{8}/g) ?? []).flatMap(word =>
    (word.match(/../g) ?? []).map(byte => Number.parseInt(byte, 16)).toReversed(),
  )
  if (bytes.length === 4) return bytes.join('.')
  const groups = Array.from({ length: 8 }, (_, at) => ((bytes[at * 2] ?? 0) << 8) | (bytes[at * 2 + 1] ?? 0))
  if (groups.slice(0, 5).every(group => group === 0) && groups[5] === 0xffff) {
    return `::ffff:${bytes.slice(12).join('.')}`
  }
  return compress(groups)
}

/** The longest run of zeroes, of two at least, becomes `::` (RFC 5952). */
function compress(groups: readonly number[]): string {
  let best = { at: 0, length: 1 }
  for (let at = 0; at < groups.length; at++) {
    let length = 0
    while (groups[at + length] === 0) length++
    if (length > best.length) best = { at, length }
  }
  const hex = (part: readonly number[]) => part.map(group => group.toString(16)).join(':')
  if (best.length < 2) return hex(groups)
  return `${hex(groups.slice(0, best.at))}::${hex(groups.slice(best.at + best.length))}`
}
