import type { MessageInitShape } from '@bufbuild/protobuf'
import type {
  RejectMachineRequest,
  RejectMachineResponseSchema,
} from '../../shared/gen/muster/v1/admission_pb.ts'
import { type ChangeStateDeps, sendAway } from '../machines/change-state.ts'
import { resolveMachine } from '../machines/resolve.ts'
import { actorOf, type Caller } from './caller.ts'

/** Turns a waiting machine away; it may be approved later. */
export function rejectMachine(deps: ChangeStateDeps) {
  return async (
    request: RejectMachineRequest,
    caller: Caller,
  ): Promise<MessageInitShape<typeof RejectMachineResponseSchema>> => {
    const { id } = resolveMachine(deps.directory, request.ref)
    const machine = await sendAway(deps, id, {
      state: 'rejected',
      from: ['pending'],
      otherwise: state =>
        state === 'evicted'
          ? 'it has no identity, and returns by your hand or a new token alone; `muster ban` keeps it away for good'
          : 'only a waiting machine is rejected; use `muster evict` for one that was let in',
      reason: request.reason,
      actor: actorOf(caller),
    })
    return { machine }
  }
}
