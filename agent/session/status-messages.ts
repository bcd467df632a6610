import { toBinary } from '@bufbuild/protobuf'
import { NodeStatusSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import type { Operations } from '../operation/operations.ts'
import type { MessageSource } from './sender.ts'

/** What the node holds on to: whole, at the beginning of a session and whenever it changed. */
export function statusMessages(operations: Pick<Operations, 'nodeStatus'>): MessageSource {
  let told: Buffer | undefined
  let last: ReturnType<Operations['nodeStatus']> | undefined
  return {
    next() {
      const status = operations.nodeStatus()
      if (status === last) return undefined
      const bytes = Buffer.from(toBinary(NodeStatusSchema, status))
      if (told?.equals(bytes)) {
        last = status
        return undefined
      }
      return {
        message: { message: { case: 'status', value: status } },
        sent() {
          told = bytes
          last = status
        },
      }
    },
  }
}
