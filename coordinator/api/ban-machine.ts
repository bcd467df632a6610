import type { MessageInitShape } from '@bufbuild/protobuf'
import type { BanMachineRequest, BanMachineResponseSchema } from '../../shared/gen/muster/v1/admission_pb.ts'
import { type ChangeStateDeps, sendAway } from '../machines/change-state.ts'
import { resolveMachine } from '../machines/resolve.ts'
import { actorOf, type Caller } from './caller.ts'

/** Sends a machine away for good, on live connections too. */
export function banMachine(deps: ChangeStateDeps) {
  return async (
    request: BanMachineRequest,
    caller: Caller,
  ): Promise<MessageInitShape<typeof BanMachineResponseSchema>> => {
    const { id } = resolveMachine(deps.directory, request.ref)
    const machine = await sendAway(deps, id, {
      state: 'banned',
      from: ['pending', 'enrolled', 'active', 'rejected', 'evicted'],
      otherwise: () => 'it cannot be banned',
      reason: request.reason,
      actor: actorOf(caller),
    })
    return { machine }
  }
}
