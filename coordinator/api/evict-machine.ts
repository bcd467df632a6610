import type { MessageInitShape } from '@bufbuild/protobuf'
import type {
  EvictMachineRequest,
  EvictMachineResponseSchema,
} from '../../shared/gen/muster/v1/admission_pb.ts'
import { type ChangeStateDeps, sendAway } from '../machines/change-state.ts'
import { resolveMachine } from '../machines/resolve.ts'
import { actorOf, type Caller } from './caller.ts'

/** Takes a machine's identity from it, on live connections too. It returns by hand or by a token made later. */
export function evictMachine(deps: ChangeStateDeps) {
  return async (
    request: EvictMachineRequest,
    caller: Caller,
  ): Promise<MessageInitShape<typeof EvictMachineResponseSchema>> => {
    const { id } = resolveMachine(deps.directory, request.ref)
    const machine = await sendAway(deps, id, {
      state: 'evicted',
      from: ['enrolled', 'active'],
      otherwise: state =>
        state === 'pending'
          ? 'only a machine that was let in is evicted; use `muster reject` or `muster ban`'
          : 'it has no identity that could be taken from it; `muster ban` keeps it away for good',
      reason: request.reason,
      actor: actorOf(caller),
    })
    return { machine }
  }
}
