import { invalid, notFound } from '../../shared/rpc/rpc-error.ts'
import type { MachineDirectory } from './directory.ts'
import type { MachineEntry } from './entry.ts'

const LEAST_PREFIX_CHARS = 4

type ResolveDirectory = Pick<
  MachineDirectory,
  'get' | 'ids' | 'claimants' | 'targets' | 'entries' | 'assignment'
>

/** A machine by its host's name, its id, or an unambiguous start of its id. Throws with what is wrong with the reference. */
export function resolveMachine(directory: ResolveDirectory, ref: string): MachineEntry {
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
  const isListed = directory.targets.hosts.has(ref)
  const former = formerMachines(directory, ref)
  if (former.length > 0) {
    const cure = isListed ? `, or \`muster bind ${ref} MACHINE\` makes another it` : ''
    throw notFound(`ref: ${describeFormer(ref, former)}${cure}`)
  }
  if (isListed) {
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

/** Machines that were this host until they were turned away: listings show them with its name. */
function formerMachines(directory: ResolveDirectory, host: string): MachineEntry[] {
  const found: MachineEntry[] = []
  for (const entry of directory.entries()) {
    const isGone = entry.state === 'evicted' || entry.state === 'banned'
    const assignment = isGone ? directory.assignment(entry.id) : undefined
    if (assignment?.kind === 'host' && assignment.host === host) found.push(entry)
  }
  return found
}

function describeFormer(host: string, former: readonly MachineEntry[]): string {
  const [only, second] = former
  if (only && !second) {
    return `host ${host} was machine ${shortId(only.id)}, which was ${only.state}; name it by its id`
  }
  const names = former.slice(0, 5).map(({ id, state }) => `${shortId(id)} (${state})`)
  return `no machine is host ${host} any more; name one of those that were by its id: ${names.join(', ')}`
}

/** As much of an id as tells machines apart for people. */
function shortId(id: string): string {
  return id.slice(0, 12)
}
