import type { MessageInitShape } from '@bufbuild/protobuf'
import type { Envelope } from '../../shared/gen/muster/v1/envelope_pb.ts'
import type { GetEvidenceRequest, GetEvidenceResponseSchema } from '../../shared/gen/muster/v1/evidence_pb.ts'
import { invalid } from '../../shared/rpc/rpc-error.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import { resolveMachine } from '../machines/resolve.ts'
import { findMachine } from '../store/machines.ts'
import { machinesThatSigned, signedOperations, signedOutcomeOf } from '../store/operations.ts'
import { findRevision } from '../store/revisions.ts'
import type { Store } from '../store/store.ts'
import type { Caller } from './caller.ts'

const MAX_REFS = 10_000
const MAX_LIMIT = 1_000
const DEFAULT_LIMIT = 100

export interface EvidenceDeps {
  readonly store: Store
  readonly directory: MachineDirectory
  readonly trustChain: () => readonly Envelope[]
}

type Item = MessageInitShape<typeof GetEvidenceResponseSchema>

/** Sends what shows offline what machines did, as it is stored: nothing is judged here, since the reader trusts nobody. */
export function getEvidence({ store, directory, trustChain }: EvidenceDeps) {
  return async function* (
    { refs, limit }: GetEvidenceRequest,
    _caller: Caller,
    signal: AbortSignal,
  ): AsyncGenerator<Item> {
    if (refs.length > MAX_REFS) throw invalid(`refs: ${refs.length}, at most ${MAX_REFS} are allowed`)
    if (limit > MAX_LIMIT) throw invalid(`limit: ${limit}, at most ${MAX_LIMIT} are allowed`)
    const named = refs.map(ref => resolveMachine(directory, ref).id)
    const ids = named.length > 0 ? [...new Set(named)] : await machinesThatSigned(store.db, MAX_REFS)
    yield { item: { case: 'trust', value: { envelopes: [...trustChain()] } } }
    const revisions = new Set<number>()
    for (const id of ids) {
      if (signal.aborted) return
      const machine = await findMachine(store.db, id)
      if (!machine) continue
      const assignment = directory.assignment(id)
      const host = assignment.kind === 'host' ? assignment.host : ''
      yield { item: { case: 'machine', value: { publicKey: machine.public_key, host } } }
      for (const row of await signedOperations(store.db, id, limit || DEFAULT_LIMIT)) {
        const signed = signedOutcomeOf(row)
        if (!signed) continue
        const value = { machine: id, operationId: row.id, signed, orderedBy: row.ordered_by }
        yield { item: { case: 'outcome', value } }
        if (row.revision > 0) revisions.add(row.revision)
      }
    }
    for (const number of [...revisions].toSorted((a, b) => a - b)) {
      if (signal.aborted) return
      const revision = await findRevision(store.db, number)
      if (!revision) continue
      yield { item: { case: 'revision', value: { number: BigInt(number), envelope: revision.envelope } } }
    }
  }
}
