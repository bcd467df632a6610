import type { MessageInitShape } from '@bufbuild/protobuf'
import type { UnbindHostRequest, UnbindHostResponseSchema } from '../../shared/gen/muster/v1/operator_pb.ts'
import { notFound } from '../../shared/rpc/rpc-error.ts'
import type { ChangeStateDeps } from '../machines/change-state.ts'
import { bindingOfHost, deleteBinding } from '../store/bindings.ts'
import { recordEvent } from '../store/events.ts'
import { actorOf, type Caller } from './caller.ts'

/** Gives up a binding by hand; the machine keeps what it runs. */
export function unbindHost({ store, directory, sessions, clock }: ChangeStateDeps) {
  return async (
    { host }: UnbindHostRequest,
    caller: Caller,
  ): Promise<MessageInitShape<typeof UnbindHostResponseSchema>> => {
    const machine = await store.transact(async tx => {
      const bound = await bindingOfHost(tx, host)
      if (!bound) {
        throw notFound(
          directory.claimants(host).length > 0
            ? `host: ${host} is bound by the fleet file and not by hand; change it there`
            : `host: nothing is bound to ${host}`,
        )
      }
      await deleteBinding(tx, host)
      const reason = `host ${host} unbound`
      const about = { at: clock.now(), machine: bound.machine, host, reason, actor: actorOf(caller) }
      await recordEvent(tx, { ...about, class: 'unbound' })
      return bound.machine
    })
    directory.bind(machine, undefined)
    sessions.wake(machine)
    return {}
  }
}
