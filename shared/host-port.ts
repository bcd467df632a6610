/** Where a listener is reached, or where it listens. */
export interface HostPort {
  /** A name or an address; IPv6 without its brackets. */
  readonly host: string
  readonly port: number
}

/** Takes `host:port` or `[IPv6]:port` apart; undefined when it is neither. A listener may ask for port 0, any free one. */
export function parseHostPort(text: string, leastPort: 0 | 1 = 1): HostPort | undefined {
  const [, v6, name, digits] =
    /^(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253})):([0-9]{1,5})$/.exec(text) ?? []
  const host = v6 ?? name
  const port = Number(digits)
  return host !== undefined && port >= leastPort && port <= 65_535 ? { host, port } : undefined
}
