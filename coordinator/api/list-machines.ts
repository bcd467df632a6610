import type { MessageInitShape } from '@bufbuild/protobuf'
import type {
  ListMachinesRequest,
  ListMachinesResponseSchema,
  MachineState,
} from '../../shared/gen/muster/v1/machine_pb.ts'
import { isDigest } from '../../shared/ids.ts'
import { invalid } from '../../shared/rpc/rpc-error.ts'
import { describeMachines, type MachineInit, STATE_NUMBERS } from '../machines/describe-machines.ts'
import { STATES } from '../machines/entry.ts'
import type { FleetQueryDeps } from '../queries/evaluate-fleet.ts'
import { type SelectionError, selectMachines } from '../queries/select-machines.ts'
import { newestFacts } from '../store/facts.ts'
import { findMachines, pageMachines } from '../store/machines.ts'
import type { Caller } from './caller.ts'

const MAX_MACHINES = 10_000
const PAGE = 250
/** An answer with facts stays below this, so that it fits into one message. */
const MAX_FACTS_TOTAL_BYTES = 8 * 1024 * 1024

/** Machines in order of their ids, in pages. One that the selector cannot judge is named, and is neither in nor out. */
export function listMachines(deps: FleetQueryDeps) {
  return async (
    request: ListMachinesRequest,
    _caller: Caller,
    signal: AbortSignal,
  ): Promise<MessageInitShape<typeof ListMachinesResponseSchema>> => {
    const { db } = deps.store
    const limit = request.limit === 0 ? MAX_MACHINES : request.limit
    if (limit > MAX_MACHINES) throw invalid(`limit: at most ${MAX_MACHINES}`)
    const { pageToken, where } = request
    if (pageToken !== '' && !isDigest(pageToken)) {
      throw invalid('page_token: is not one from a response before')
    }
    const states = readStates(request.states)
    const selected = where === '' ? undefined : await selectIds(deps, where, pageToken, states)
    const errors = selected?.errors ?? []
    const machines: MachineInit[] = []
    let factsBytes = 0
    for (let after = pageToken; ; ) {
      signal.throwIfAborted()
      const chunk = selected?.ids.filter(id => id > after).slice(0, PAGE)
      const rows = chunk
        ? await findMachines(db, chunk)
        : await pageMachines(db, { after, limit: PAGE, ...(states && { states }) })
      const ordered = rows.toSorted((a, b) => (a.id < b.id ? -1 : 1))
      const facts = request.withFacts
        ? await newestFacts(
            db,
            ordered.map(row => row.id),
          )
        : undefined
      for (const machine of await describeMachines(deps, db, ordered)) {
        const bytes = facts?.get(machine.id ?? '')
        factsBytes += bytes?.length ?? 0
        const last = machines.at(-1)?.id
        if (last !== undefined && (machines.length >= limit || factsBytes > MAX_FACTS_TOTAL_BYTES)) {
          return { machines, errors, nextPageToken: last }
        }
        machines.push(bytes ? { ...machine, facts: bytes } : machine)
      }
      const ids = chunk ?? ordered.map(row => row.id)
      const end = ids.at(-1)
      if (end === undefined || ids.length < PAGE) return { machines, errors }
      after = end
    }
  }
}

async function selectIds(
  deps: FleetQueryDeps,
  where: string,
  after: string,
  states: readonly string[] | undefined,
): Promise<{ readonly ids: readonly string[]; readonly errors: SelectionError[] }> {
  const { matched, errors } = await selectMachines(
    deps,
    where,
    ({ id, state }) => id > after && (states === undefined || states.includes(state)),
  )
  return { ids: matched.map(({ id }) => id).toSorted(), errors }
}

function readStates(states: readonly MachineState[]): readonly string[] | undefined {
  if (states.length === 0) return undefined
  const names = STATES.filter(name => states.includes(STATE_NUMBERS[name]))
  if (names.length !== new Set(states).size) throw invalid('states: names a state that is unknown')
  return names
}
