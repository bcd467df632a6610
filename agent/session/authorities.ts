import { X509Certificate } from 'node:crypto'
import { keyId } from '../../shared/x509/key-id.ts'

/** Those of the authorities seen so far that are trusted now: what TLS gets as its only roots. */
export function trustedRoots(authorities: readonly string[], pins: readonly string[]): readonly string[] {
  return authorities.filter(pem => pins.includes(pinOf(pem) ?? ''))
}

function pinOf(pem: string): string | undefined {
  try {
    return keyId(new X509Certificate(pem).publicKey.export({ type: 'spki', format: 'der' }))
  } catch {
    return undefined // a certificate that cannot be read is trusted by nobody
  }
}
