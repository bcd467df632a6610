import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { GetMachineRequest, GetMachineResponseSchema } from '../../shared/gen/muster/v1/machine_pb.ts'
import { invalid } from '../../shared/rpc/rpc-error.ts'
import { describeEvent } from '../machines/describe-event.ts'
import { type DescribeDeps, describeMachine } from '../machines/describe-machines.ts'
import { readNodeStatus } from '../machines/record-status.ts'
import { resolveMachine } from '../machines/resolve.ts'
import { describeOperations } from '../operations/describe-operation.ts'
import { listEventRows } from '../store/events.ts'
import { factsHistory } from '../store/facts.ts'
import { listOperationRows } from '../store/operations.ts'
import type { Caller } from './caller.ts'

const MAX_HISTORY = 20
const SHOWN = 20

/** All that is known of one machine. */
export function getMachine(deps: DescribeDeps) {
  return async (
    { ref, history }: GetMachineRequest,
    _caller: Caller,
  ): Promise<MessageInitShape<typeof GetMachineResponseSchema>> => {
    if (history > MAX_HISTORY) throw invalid(`history: at most ${MAX_HISTORY}`)
    const { id } = resolveMachine(deps.directory, ref)
    const { db } = deps.store
    const machine = await describeMachine(deps, id)
    const nodeStatus = await readNodeStatus(db, id)
    const [newest, ...older] = await factsHistory(db, id, history + 1)
    const operations = await describeOperations(
      db,
      await listOperationRows(db, { machine: id, limit: SHOWN }),
    )
    const events = await listEventRows(db, { machine: id, limit: SHOWN })
    return {
      machine: {
        ...machine,
        ...(newest && { facts: newest.facts }),
        ...(nodeStatus && { nodeStatus }),
      },
      history: older.map(({ facts, at }) => ({ facts, at: timestampFromMs(at) })),
      operations,
      events: events.map(describeEvent),
    }
  }
}
