import { constants } from 'node:crypto'
import type { SecureContextOptions } from 'node:tls'
import { ServerCredentials } from '@grpc/grpc-js'
import type { Authorities } from './authorities.ts'

export interface ServerCredentialsOptions {
  /** True on the fleet listener: TLS lets in only who holds a certificate, in date, of a trusted authority. */
  readonly requireClientCertificate: boolean
}

/** Credentials of a gRPC server that follow the authorities: a new connection always meets the present state. */
export function createRenewableServerCredentials(
  authorities: Authorities,
  options: ServerCredentialsOptions,
): ServerCredentials {
  return new RenewableServerCredentials(authorities, options)
}

/** A connection on which TLS has not been agreed by then is closed; Node itself would wait two minutes. */
const HANDSHAKE_MS = 15_000

type Watcher = (context: SecureContextOptions | null) => void

/**
 * A subclass, because grpc-js asks `instanceof ServerCredentials`. Its own way to renew (a certificate provider, still
 * experimental) takes certificate and authorities in two updates with a mixed state between them, and leaves no room for
 * the TLS version and for turning tickets off.
 */
class RenewableServerCredentials extends ServerCredentials {
  readonly #authorities: Authorities
  #stopFollowing: (() => void) | undefined

  constructor(authorities: Authorities, { requireClientCertificate }: ServerCredentialsOptions) {
    super({
      requestCert: requireClientCertificate,
      rejectUnauthorized: requireClientCertificate,
      handshakeTimeout: HANDSHAKE_MS,
    })
    this.#authorities = authorities
  }

  override _getSecureContextOptions(): SecureContextOptions {
    return contextOptions(this.#authorities)
  }

  override _addWatcher(watcher: Watcher): void {
    super._addWatcher(watcher)
    this.#stopFollowing ??= this.#authorities.onChange(() => {
      this.updateSecureContextOptions(contextOptions(this.#authorities))
    })
  }

  override _removeWatcher(watcher: Watcher): void {
    super._removeWatcher(watcher)
    if (this.getWatcherCount() > 0) return
    this.#stopFollowing?.()
    this.#stopFollowing = undefined
  }

  override _equals(other: ServerCredentials): boolean {
    return this === other
  }
}

/** All of it each time: Node forgets what an update of a running server leaves out, the TLS version too. */
function contextOptions(authorities: Authorities): SecureContextOptions {
  const { privateKeyPem, certChainPem, clientCasPem } = authorities.serverContext()
  return {
    key: privateKeyPem,
    cert: certChainPem,
    ca: [...clientCasPem],
    minVersion: 'TLSv1.3',
    // A resumed session skips the check of the client's certificate: one that has expired since, or whose authority was
    // dropped, would still be let in. Without tickets, and with no session store, every handshake is a whole one.
    secureOptions: constants.SSL_OP_NO_TICKET,
  }
}
