import { invalid, notFound } from '../../shared/rpc/rpc-error.ts'
import type { MachineDirectory } from './directory.ts'
import type { MachineEntry } from './entry.ts'

const LEAST_PREFIX_CHARS = 4

/** A machine by its host's name, its id, or an unambiguous start of its id. Throws with what is wrong with the reference. */
export function resolveMachine(
  directory: Pick<MachineDirectory, 'get' | 'ids' | 'claimants' | 'targets'>,
  ref: string,
): MachineEntry {
  if (ref === '') throw invalid('ref: must name a host or a machine')
  if (ref.length > 64) throw invalid('ref: longer than any host name or machine id')
  const claimants = directory.claimants(ref)
  if (claimants.length > 1) {
    throw invalid(
      `ref: several machines claim host ${ref}; name one by its id: ${claimants.map(shortId).join(', ')}`,
    )
  }
  const exact = directory.get(claimants[0] ?? ref)
  if (exact) return exact
  if (directory.targets.hosts.has(ref)) {
    throw notFound(
      `ref: no machine is host ${ref} of the fleet file yet; \`muster pending\` shows those that wait, \`muster bind ${ref} MACHINE\` binds one by hand`,
    )
  }
  if (ref.length < LEAST_PREFIX_CHARS || !/^[0-9a-f]+$/.test(ref)) {
    throw notFound(`ref: no machine is host ${ref}, and it is no start of an id of at least 4 hex characters`)
  }
  const found: string[] = []
  for (const id of directory.ids()) if (id.startsWith(ref)) found.push(id)
  if (found.length > 1) {
    throw invalid(`ref: ${found.length} machines begin with ${ref}; give more of the id`)
  }
  const entry = directory.get(found[0] ?? '')
  if (!entry) throw notFound(`ref: there is no machine ${ref}`)
  return entry
}

/** As much of an id as tells machines apart for people. */
function shortId(id: string): string {
  return id.slice(0, 12)
}
