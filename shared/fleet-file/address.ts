import { isIPv4, isIPv6 } from 'node:net'

/** An IP address as a number, so that two spellings of one IPv6 address are equal. */
export interface Address {
  readonly family: 4 | 6
  readonly bits: bigint
}

/** Reads an IPv4 or IPv6 address without prefix or zone; undefined when it is none. */
export function parseAddress(text: string): Address | undefined {
  if (isIPv4(text)) return { family: 4, bits: fromParts(text.split('.').map(Number), 8n) }
  if (!isIPv6(text) || text.includes('%')) return undefined
  const plain = text.replace(/\d+\.\d+\.\d+\.\d+$/, dotted => {
    const [a = 0, b = 0, c = 0, d = 0] = dotted.split('.').map(Number)
    return `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`
  })
  const [head = '', tail] = plain.split('::')
  const left = groups(head)
  const right = groups(tail ?? '')
  const gap = Array.from({ length: 8 - left.length - right.length }, () => 0)
  return { family: 6, bits: fromParts([...left, ...gap, ...right], 16n) }
}

function groups(text: string): number[] {
  return text === '' ? [] : text.split(':').map(group => Number.parseInt(group, 16))
}

function fromParts(parts: readonly number[], width: bigint): bigint {
  return parts.reduce((bits, part) => (bits << width) | BigInt(part), 0n)
}

/** An address with a prefix length, which together name a network. */
export interface Network {
  readonly address: Address
  readonly prefixLength: number
}

/** Reads ADDRESS/LENGTH; undefined when it is none or when bits behind the prefix are set. */
export function parseNetwork(text: string): Network | undefined {
  const [, left = '', right = ''] = /^([^/]+)\/(0|[1-9]\d{0,2})$/.exec(text) ?? []
  const address = parseAddress(left)
  if (address === undefined) return undefined
  const prefixLength = Number(right)
  const width = addressWidth(address)
  if (prefixLength > width) return undefined
  const hostBits = (1n << BigInt(width - prefixLength)) - 1n
  return (address.bits & hostBits) === 0n ? { address, prefixLength } : undefined
}

/** Whether two networks have an address in common. */
export function networksOverlap(a: Network, b: Network): boolean {
  return sameNetwork(a.address, b.address, Math.min(a.prefixLength, b.prefixLength))
}

export function addressKey({ family, bits }: Address): string {
  return `${family}/${bits.toString(16)}`
}

/** Whether two addresses of one family lie in the same network of this prefix length. */
export function sameNetwork(a: Address, b: Address, prefixLength: number): boolean {
  const shift = BigInt(addressWidth(a) - prefixLength)
  return a.family === b.family && a.bits >> shift === b.bits >> shift
}

export function addressWidth({ family }: Address): number {
  return family === 4 ? 32 : 128
}

/** Why no machine can have this address of its own; undefined when one can. */
export function unusableAddress({ family, bits }: Address): string | undefined {
  if (bits === 0n) return 'means "no address"'
  if (family === 6) {
    if (bits === 1n) return 'is the loopback address'
    return bits >> 120n === 0xffn ? 'is a multicast address' : undefined
  }
  const first = bits >> 24n
  if (first === 0n) return 'means "this network"'
  if (first === 127n) return 'is a loopback address'
  if (first >= 224n) return 'is a multicast or reserved address'
  return undefined
}

/** Whether this is the network's own or its broadcast address, which IPv4 keeps for itself in networks larger than /31. */
export function isNetworkEdge({ family, bits }: Address, prefixLength: number): boolean {
  if (family !== 4 || prefixLength >= 31) return false
  const mask = (1n << BigInt(32 - prefixLength)) - 1n
  return (bits & mask) === 0n || (bits & mask) === mask
}

export function isLinkLocal({ family, bits }: Address): boolean {
  return family === 6 && bits >> 118n === 0x3fan
}
