import type { Clock } from '../../shared/clock.ts'
import { denied, exhausted, invalid, precondition } from '../../shared/rpc/rpc-error.ts'
import { keyId } from '../../shared/x509/key-id.ts'
import type { Authorities } from '../authority/authorities.ts'
import { conditionsOf } from '../store/conditions.ts'
import { changeMachine, findMachine } from '../store/machines.ts'
import type { Store } from '../store/store.ts'
import type { MachineDirectory } from './directory.ts'
import { disputedBecause, isLive, readState } from './entry.ts'
import { MachineThrottles } from './machine-throttles.ts'
import { refreshMachines } from './refresh.ts'

export interface RenewDeps {
  readonly store: Store
  readonly directory: MachineDirectory
  readonly authorities: Pick<Authorities, 'prepareMachine'>
  readonly clock: Clock
}

export interface Renewed {
  readonly chainPem: string
  readonly notAfter: Date
}

/** A machine asks a few times in the life of a certificate; each is a write and a signature. */
const RENEWALS_PER_SECOND = 0.2
const RENEWALS_BURST = 20

/**
 * A new certificate for the key that a machine has proved by the connection it asks on. It is signed after the commit, as
 * in an enrolment; a machine that a kill in between leaves without one asks again.
 */
export function renewCertificate({ store, directory, authorities, clock }: RenewDeps) {
  const throttles = new MachineThrottles(RENEWALS_PER_SECOND, RENEWALS_BURST)
  return async (machineId: string, publicKey: Uint8Array): Promise<Renewed> => {
    if (keyId(publicKey) !== machineId) throw invalid('public_key: is not the key of the certificate you use')
    const seconds = throttles.take(machineId, clock.now().getTime())
    if (seconds > 0) throw exhausted(`this machine renewed too often; renew again in ${seconds} s`)
    const certificate = await store.transact(async tx => {
      const row = await findMachine(tx, machineId)
      if (!row || !isLive(readState(row.state))) throw denied('this machine may not renew its certificate')
      const dispute = disputedBecause(await conditionsOf(tx, machineId))
      if (dispute) throw denied(`${dispute.class}: ${dispute.reason}`)
      const issued = authorities.prepareMachine(publicKey)
      if (!issued.ok) throw precondition(`no certificate could be made: ${issued.reason}`)
      await changeMachine(tx, row, {
        certificate_not_after: issued.certificate.notAfter.getTime(),
        certificate_issuer: issued.issuer,
      })
      return issued.certificate
    })
    await refreshMachines(store.db, directory, [machineId])
    return await certificate.sign()
  }
}
