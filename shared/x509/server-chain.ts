import { isIP } from 'node:net'
import { connect, type DetailedPeerCertificate } from 'node:tls'
import { withDeadline } from '../lifecycle.ts'

export interface ServerChainRequest {
  readonly host: string
  readonly port: number
  readonly timeoutMs: number
  readonly signal?: AbortSignal
}

const MAX_CERTIFICATES = 8

/**
 * Fetches the chain (DER, leaf first) that a server shows, and hangs up. Nothing is verified here and nothing sent but
 * the handshake: the result is for `verifyPinnedChain`.
 */
export function readServerChain({ host, port, timeoutMs, signal }: ServerChainRequest): Promise<Buffer[]> {
  return withDeadline(timeoutMs, signal, inner => handshake(host, port, inner))
}

function handshake(host: string, port: number, signal: AbortSignal): Promise<Buffer[]> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      host,
      port,
      ...(isIP(host) ? {} : { servername: host }),
      ALPNProtocols: ['h2'],
      minVersion: 'TLSv1.3',
      // The chain is proved against the pin by the caller; no byte of ours follows on this connection.
      rejectUnauthorized: false,
    })
    const onAbort = () =>
      socket.destroy(signal.reason instanceof Error ? signal.reason : new Error('stopped'))
    signal.addEventListener('abort', onAbort, { once: true })
    socket.once('secureConnect', () => {
      const chain = flatten(socket.getPeerCertificate(true))
      resolve(chain)
      socket.destroy()
    })
    socket.on('error', reject)
    socket.once('close', () => {
      signal.removeEventListener('abort', onAbort)
      reject(new Error(`${host}:${port} closed the connection during the handshake`))
    })
  })
}

/** Node links each certificate to its issuer; the last one to itself. */
function flatten(leaf: DetailedPeerCertificate): Buffer[] {
  const chain: Buffer[] = []
  let current: DetailedPeerCertificate | undefined = leaf
  while (current?.raw && chain.length < MAX_CERTIFICATES) {
    if (chain.some(seen => seen.equals(current?.raw ?? seen))) break
    chain.push(current.raw)
    current = current.issuerCertificate
  }
  return chain
}
