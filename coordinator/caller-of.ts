import { denied } from '../shared/errors.ts'
import type { Peer } from '../shared/rpc/definition.ts'
import { readPeerIdentity } from '../shared/x509/peer-identity.ts'
import type { Caller } from './api/caller.ts'
import type { MachineDirectory } from './machines/directory.ts'
import type { OperatorBook } from './machines/operator-book.ts'

export interface CallerDeps {
  readonly directory: Pick<MachineDirectory, 'isAllowed'>
  readonly operators: Pick<OperatorBook, 'nameOf'>
}

/**
 * Who a verified certificate belongs to, looked up anew for every call: an evicted machine and a removed operator hold
 * certificates that TLS still takes.
 */
export function callerOf({ directory, operators }: CallerDeps, peer: Peer): Caller {
  if (!peer.certificate) return { kind: 'stranger' }
  const reading = readPeerIdentity(peer.certificate)
  if (!reading.ok) throw denied(`certificate: ${reading.reason}`)
  const { kind, id, notAfter } = reading.identity
  switch (kind) {
    case 'machine':
      if (!directory.isAllowed(id)) throw denied('this machine was evicted, banned, or is not known here')
      return { kind: 'machine', id, notAfter }
    case 'operator': {
      const name = operators.nameOf(id)
      if (name === undefined) throw denied('this operator was removed, or is not known here')
      return { kind: 'operator', id, name }
    }
    case 'server':
      throw denied('certificate: belongs to a server')
  }
}
