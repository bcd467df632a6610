import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type {
  FactsChangeSchema,
  ListFactsChangesRequest,
  ListFactsChangesResponseSchema,
} from '../../shared/gen/muster/v1/facts_change_pb.ts'
import { invalid } from '../../shared/rpc/rpc-error.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import { MAX_FACTS_BYTES, readFacts } from '../machines/read-facts.ts'
import { resolveMachine } from '../machines/resolve.ts'
import { compareFacts } from '../queries/compare-facts.ts'
import { type FactsRow, factsBefore } from '../store/facts.ts'
import type { Store } from '../store/store.ts'
import type { Caller } from './caller.ts'

const MAX_LIMIT = 1_000
const DEFAULT_LIMIT = 100
/** What a JSON text may take in the answer; a part that came or went is short. */
const MAX_TEXT_CHARS = 2_048

/** What changed in what a machine says of itself, from the sets of facts that are kept. */
export function listFactsChanges({
  store,
  directory,
}: {
  readonly store: Store
  readonly directory: MachineDirectory
}) {
  return async (
    { ref, all, limit }: ListFactsChangesRequest,
    _caller: Caller,
  ): Promise<MessageInitShape<typeof ListFactsChangesResponseSchema>> => {
    if (limit > MAX_LIMIT) throw invalid(`limit: at most ${MAX_LIMIT}`)
    const { id } = resolveMachine(directory, ref)
    const most = limit || DEFAULT_LIMIT
    const changes: MessageInitShape<typeof FactsChangeSchema>[] = []
    let newer = await factsBefore(store.db, id, Number.MAX_SAFE_INTEGER)
    let sets = newer ? 1 : 0
    // Two sets at a time: one may take a mebibyte.
    while (newer && changes.length <= most) {
      const older = await factsBefore(store.db, id, newer.at)
      if (!older) break
      changes.push(...changesBetween(older, newer).filter(({ hardware }) => all || hardware))
      newer = older
      sets++
    }
    const more = changes.length > most
    return { changes: changes.slice(0, most), more, sets, ...(newer && { since: timestampFromMs(newer.at) }) }
  }
}

function changesBetween(older: FactsRow, newer: FactsRow): MessageInitShape<typeof FactsChangeSchema>[] {
  const [before, after] = [older, newer].map(({ facts }) => readFacts(facts, MAX_FACTS_BYTES))
  // What could not be decoded was never taken in; a store that holds it was damaged.
  if (before?.kind !== 'ok' || after?.kind !== 'ok') return []
  return compareFacts(before.facts, after.facts).map(difference => ({
    ...difference,
    before: difference.before.slice(0, MAX_TEXT_CHARS),
    after: difference.after.slice(0, MAX_TEXT_CHARS),
    at: timestampFromMs(newer.at),
    notBefore: timestampFromMs(older.at),
  }))
}
