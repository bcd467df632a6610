import type { MessageInitShape } from '@bufbuild/protobuf'
import type { ListEventsRequest, ListEventsResponseSchema } from '../../shared/gen/muster/v1/event_pb.ts'
import { isDigest } from '../../shared/ids.ts'
import { invalid } from '../../shared/rpc/rpc-error.ts'
import { describeEvent } from '../machines/describe-event.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import { resolveMachine } from '../machines/resolve.ts'
import { listEventRows } from '../store/events.ts'
import type { Store } from '../store/store.ts'
import type { Caller } from './caller.ts'

const MAX_EVENTS = 1_000

/** What happened, newest first. */
export function listEvents({
  store,
  directory,
}: {
  readonly store: Store
  readonly directory: MachineDirectory
}) {
  return async (
    { ref, limit, after, before }: ListEventsRequest,
    _caller: Caller,
  ): Promise<MessageInitShape<typeof ListEventsResponseSchema>> => {
    if (limit > MAX_EVENTS) throw invalid(`limit: at most ${MAX_EVENTS}`)
    for (const [name, id] of Object.entries({ after, before })) {
      if (id > BigInt(Number.MAX_SAFE_INTEGER)) throw invalid(`${name}: is no id of an event`)
    }
    // A machine that was only ever refused is in no list; its events have its whole id.
    const machine = ref === '' || isDigest(ref) ? ref : resolveMachine(directory, ref).id
    const rows = await listEventRows(store.db, {
      ...(machine === '' ? {} : { machine }),
      after: Number(after),
      before: Number(before),
      limit: limit === 0 ? 100 : limit,
    })
    return { events: rows.map(describeEvent) }
  }
}
