import type { MessageInitShape } from '@bufbuild/protobuf'
import type { BindHostRequest, BindHostResponseSchema } from '../../shared/gen/muster/v1/admission_pb.ts'
import { precondition } from '../../shared/rpc/rpc-error.ts'
import { bindByHand } from '../machines/bind-by-hand.ts'
import { type ChangeStateDeps, requireMachine } from '../machines/change-state.ts'
import { describeMachine } from '../machines/describe-machines.ts'
import { isLive, readState } from '../machines/entry.ts'
import { resolveMachine } from '../machines/resolve.ts'
import { recordEvent } from '../store/events.ts'
import { actorOf, type Caller } from './caller.ts'

/** Binds a host to a machine by an operator's word: loose, since nothing signed ties them together. */
export function bindHost(deps: ChangeStateDeps) {
  return async (
    request: BindHostRequest,
    caller: Caller,
  ): Promise<MessageInitShape<typeof BindHostResponseSchema>> => {
    const { store, directory, sessions, clock } = deps
    const { id } = resolveMachine(directory, request.machine)
    const { host } = request
    const now = clock.now()
    const by = `operator ${actorOf(caller)}`
    await store.transact(async tx => {
      const state = readState((await requireMachine(tx, id)).state)
      if (!isLive(state) && state !== 'pending') throw precondition(`machine: it is ${state}`)
      await bindByHand(tx, directory, { host, machineId: id, by, now })
      const reason = `host ${host} bound by hand`
      await recordEvent(tx, { at: now, class: 'bound', machine: id, host, reason, actor: actorOf(caller) })
    })
    directory.bind(id, host)
    sessions.wake(id)
    return { machine: await describeMachine(deps, id) }
  }
}
