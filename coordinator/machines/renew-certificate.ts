import { denied, invalid, precondition } from '../../shared/rpc/rpc-error.ts'
import { keyId } from '../../shared/x509/key-id.ts'
import type { Authorities } from '../authority/authorities.ts'
import { conditionsOf } from '../store/conditions.ts'
import { changeMachine, findMachine } from '../store/machines.ts'
import type { Store } from '../store/store.ts'
import type { MachineDirectory } from './directory.ts'
import { disputedBecause, isLive, readState } from './entry.ts'
import { refreshMachines } from './refresh.ts'

export interface RenewDeps {
  readonly store: Store
  readonly directory: MachineDirectory
  readonly authorities: Pick<Authorities, 'issueMachine'>
}

/** A new certificate for the key that a machine has proved by the connection it asks on. */
export async function renewCertificate(
  { store, directory, authorities }: RenewDeps,
  machineId: string,
  publicKey: Uint8Array,
): Promise<{ readonly chainPem: string; readonly notAfter: Date }> {
  if (keyId(publicKey) !== machineId) throw invalid('public_key: is not the key of the certificate you use')
  const certificate = await store.transact(async tx => {
    const row = await findMachine(tx, machineId)
    if (!row || !isLive(readState(row.state))) throw denied('this machine may not renew its certificate')
    const dispute = disputedBecause(await conditionsOf(tx, machineId))
    if (dispute) throw denied(`${dispute.class}: ${dispute.reason}`)
    const issued = authorities.issueMachine(publicKey)
    if (!issued.ok) throw precondition(`no certificate could be made: ${issued.reason}`)
    await changeMachine(tx, row, {
      certificate_not_after: issued.certificate.notAfter.getTime(),
      certificate_issuer: issued.issuer,
    })
    return issued.certificate
  })
  await refreshMachines(store.db, directory, [machineId])
  return certificate
}
