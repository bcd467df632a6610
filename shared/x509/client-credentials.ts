import { createSecureContext } from 'node:tls'
import { ChannelCredentials } from '@grpc/grpc-js'

export interface ClientCredentialsInput {
  /** The authorities whose servers are trusted; nothing else is, not even the system's roots. At least one. */
  readonly caPem: readonly string[]
  /** The caller's certificate and key. Without them only the server proves itself, as on the enrolment listener. */
  readonly identity?: { readonly chainPem: string; readonly privateKeyPem: string }
}

/**
 * Credentials for a channel to the coordinator: TLS 1.3, the server verified against the given authorities and the name
 * or address that is dialled. They are fixed: whoever renews its certificate or its roots builds a new channel.
 */
export function createClientCredentials({ caPem, identity }: ClientCredentialsInput): ChannelCredentials {
  // An empty list would not mean "nobody": TLS would fall back to the system's roots.
  if (!caPem.some(pem => pem.includes('-----BEGIN CERTIFICATE-----'))) {
    throw new RangeError('caPem: at least one authority is needed')
  }
  const context = createSecureContext({
    ca: [...caPem],
    minVersion: 'TLSv1.3',
    ...(identity && { cert: identity.chainPem, key: identity.privateKeyPem }),
  })
  return ChannelCredentials.createFromSecureContext(context)
}
