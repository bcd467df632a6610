import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { EventSchema } from '../../shared/gen/muster/v1/event_pb.ts'
import type { EventRow } from '../store/events.ts'

export function describeEvent(row: EventRow): MessageInitShape<typeof EventSchema> {
  return {
    id: BigInt(row.id),
    at: timestampFromMs(row.at),
    class: row.class,
    machine: row.machine,
    host: row.host,
    reason: row.reason,
    actor: row.actor,
    previous: row.previous,
    hash: row.hash,
  }
}
