import type { CelInput } from '@bufbuild/cel'
import { fromBinary } from '@bufbuild/protobuf'
import { NodeStatusSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import { messageToCel } from '../../shared/query/message-to-cel.ts'
import type { MachineRow } from '../store/machines.ts'

/** `node`: what the machine holds on to, by its own word. Undefined: it has not said anything yet. */
export function nodeVariable({ node_status: bytes }: Pick<MachineRow, 'node_status'>): CelInput | undefined {
  if (!bytes) return undefined
  const status = fromBinary(NodeStatusSchema, bytes)
  // A list that was never read is no empty list.
  return messageToCel(NodeStatusSchema, status, status.unitsRead ? [] : ['failedUnits'])
}
