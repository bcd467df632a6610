import { isIPv6 } from 'node:net'
import { Throttle } from './throttle.ts'

/** Of the rate of all strangers together, what one origin may use. */
const SHARE = 0.5
/** Origins that are remembered; one that is forgotten begins with a full share, within the rate of all. */
const MAX_ORIGINS = 4_096

/**
 * What strangers may ask, all together and each origin by itself.
 * INVARIANTS: never more than the rate of all; one origin never uses more than half of it, so it cannot shut out the
 * others; what is remembered is bounded. Machines behind one router share what their router may.
 */
export class StrangerThrottle {
  readonly #perSecond: number
  readonly #burst: number
  readonly #all: Throttle
  /** In the order of use. */
  readonly #ofOrigin = new Map<string, Throttle>()

  constructor(perSecond: number, burst: number) {
    this.#perSecond = perSecond
    this.#all = new Throttle(perSecond, burst)
    this.#burst = burst
  }

  /** Seconds after which so many callers, each asking once in that time, stay within the rate, even of one origin. */
  spreadSeconds(callers: number): number {
    return Math.ceil(callers / (0.8 * SHARE * this.#perSecond))
  }

  /** Takes one request: 0 when it may go on, else the seconds until one will. */
  take(address: string, nowMs: number): number {
    const origin = originOf(address)
    const share = this.#ofOrigin.get(origin) ?? this.#newShare()
    this.#ofOrigin.delete(origin)
    this.#ofOrigin.set(origin, share)
    for (const oldest of this.#ofOrigin.keys()) {
      if (this.#ofOrigin.size <= MAX_ORIGINS) break
      this.#ofOrigin.delete(oldest)
    }
    // Its own first: what it is refused takes nothing from the others.
    return share.take(nowMs) || this.#all.take(nowMs)
  }

  #newShare(): Throttle {
    return new Throttle(this.#perSecond * SHARE, Math.max(1, this.#burst * SHARE))
  }

  /** How many origins are remembered. */
  get origins(): number {
    return this.#ofOrigin.size
  }
}

/** Who a caller is charged as: an IPv4 address, or the /64 of an IPv6 address, of which anybody has 2^64. */
export function originOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1]
  if (mapped !== undefined) return mapped
  const [plain = ''] = address.split('%')
  if (!isIPv6(plain)) return address
  const [head = '', tail] = plain.split('::')
  const groups = (text: string) => (text === '' ? [] : text.split(':'))
  const front = groups(head)
  const back = tail === undefined ? [] : groups(tail)
  // The last group may be written as an IPv4 address, which stands for two.
  const length = back.length + (back.at(-1)?.includes('.') ? 1 : 0)
  const zeros = tail === undefined ? 0 : Math.max(0, 8 - front.length - length)
  const all = [...front, ...Array<string>(zeros).fill('0'), ...back]
  const net = all.slice(0, 4).map(group => Number.parseInt(group, 16).toString(16))
  return `${net.join(':')}::/64`
}
