import { X509Certificate } from 'node:crypto'
import type { Clock } from '../shared/clock.ts'
import type { Peer } from '../shared/rpc/definition.ts'
import { denied, unauthenticated } from '../shared/rpc/rpc-error.ts'
import { readPeerIdentity } from '../shared/x509/peer-identity.ts'
import type { Caller } from './api/caller.ts'
import type { Authorities } from './authority/authorities.ts'
import type { MachineDirectory } from './machines/directory.ts'
import type { OperatorBook } from './machines/operator-book.ts'

export interface CallerDeps {
  readonly directory: Pick<MachineDirectory, 'isAllowed'>
  readonly operators: Pick<OperatorBook, 'nameOf'>
  readonly authorities: Pick<Authorities, 'issuerOf'>
  readonly clock: Clock
}

/**
 * Who a verified certificate belongs to, looked up anew for every call: an evicted machine and a removed operator hold
 * certificates that TLS still takes. TLS looks at a certificate only when a connection begins, so one that has ended
 * since, or whose authority was dropped, is noticed here.
 */
export function callerOf(deps: CallerDeps, peer: Peer): Caller {
  const { directory, operators, authorities, clock } = deps
  if (!peer.certificate) return { kind: 'stranger' }
  // Read once: what OpenSSL makes of a certificate is far larger than it, and lies between what connections keep.
  const certificate = parseCertificate(peer.certificate)
  const reading = readPeerIdentity(certificate)
  if (!reading.ok) throw denied(`certificate: ${reading.reason}`)
  const { kind, id, notAfter } = reading.identity
  // Written so that a date which cannot be read is a certificate that has ended.
  if (!(clock.now() < notAfter)) throw unauthenticated('certificate: has ended; renew it and connect anew')
  const issuer = authorities.issuerOf(certificate)
  if (issuer === undefined) {
    throw unauthenticated('certificate: its authority was dropped; ask for a new one')
  }
  switch (kind) {
    case 'machine':
      if (!directory.isAllowed(id)) throw denied('this machine was evicted, banned, or is not known here')
      return { kind: 'machine', id, notAfter, issuer }
    case 'operator': {
      const name = operators.nameOf(id)
      if (name === undefined) throw denied('this operator was removed, or is not known here')
      return { kind: 'operator', id, name, notAfter, issuer }
    }
    case 'server':
      throw denied('certificate: belongs to a server')
  }
}

function parseCertificate(der: Uint8Array): X509Certificate {
  try {
    return new X509Certificate(der)
  } catch {
    throw denied('certificate: not an X.509 certificate')
  }
}
