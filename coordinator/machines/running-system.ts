import { fromBinary } from '@bufbuild/protobuf'
import { NodeStatusSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import type { MachineRow } from '../store/machines.ts'

/**
 * The store path of the system that a machine runs, as it last said; undefined: it did not. Older agents name it among the generations alone,
 * where a system that was only switched to for a test is none.
 */
export function runningSystem({ node_status: bytes }: Pick<MachineRow, 'node_status'>): string | undefined {
  if (!bytes) return undefined
  const { currentSystem, generations } = fromBinary(NodeStatusSchema, bytes)
  const path = currentSystem || generations.find(({ current }) => current)?.storePath
  return path === '' ? undefined : path
}
