import type { Transaction } from 'kysely'
import { isHostName } from '../../shared/revision/host-name.ts'
import { exists, invalid, notFound, precondition } from '../../shared/rpc/rpc-error.ts'
import { bindingOfHost, insertBinding } from '../store/bindings.ts'
import type { Database } from '../store/tables.ts'
import type { MachineDirectory } from './directory.ts'

/** Binds a host to a machine by an operator's word, or throws with what is in the way. */
export async function bindByHand(
  tx: Transaction<Database>,
  directory: MachineDirectory,
  input: { readonly host: string; readonly machineId: string; readonly by: string; readonly now: Date },
): Promise<void> {
  const { host, machineId } = input
  checkHostName(directory, host)
  const other = directory.claimants(host).find(id => id !== machineId)
  const bound = await bindingOfHost(tx, host)
  if (bound && bound.machine !== machineId) {
    throw exists(
      `host: ${host} is machine ${bound.machine.slice(0, 12)} already; unbind it first (\`muster unbind ${host}\`), or evict that machine`,
    )
  }
  if (other !== undefined) {
    throw exists(
      `host: the fleet file makes machine ${other.slice(0, 12)} ${host}; change [hosts.${host}] there and publish, or evict that machine (\`muster evict ${other.slice(0, 12)}\`)`,
    )
  }
  const assignment = directory.preview(machineId, host)
  if (assignment.kind === 'conflict') throw precondition(`host: ${assignment.reason}`)
  if (assignment.kind === 'host' && assignment.host !== host) {
    throw precondition(
      `host: the fleet file makes this machine ${assignment.host}; change it there, where it is signed`,
    )
  }
  await insertBinding(tx, { host, machine: machineId, bound_by: input.by, at: input.now.getTime() })
}

/** A host must stand in the newest revision; before the first one any name may be bound. */
export function checkHostName(directory: MachineDirectory, host: string): void {
  if (!isHostName(host)) throw invalid('host: wanted lower-case letters, digits and dashes, at most 63')
  const { revision, hosts } = directory.targets
  if (revision > 0 && !hosts.has(host)) {
    throw notFound(`host: revision ${revision} has no host ${host}; publish a fleet file that lists it`)
  }
}
