import type { MessageInitShape } from '@bufbuild/protobuf'
import type { UnbindHostRequest, UnbindHostResponseSchema } from '../../shared/gen/muster/v1/admission_pb.ts'
import { notFound, precondition } from '../../shared/rpc/rpc-error.ts'
import { type ChangeStateDeps, requireMachine } from '../machines/change-state.ts'
import { refreshMachines } from '../machines/refresh.ts'
import { bindingOfHost, deleteBinding } from '../store/bindings.ts'
import { recordEvent } from '../store/events.ts'
import { changeMachine } from '../store/machines.ts'
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
        if (directory.claimants(host).length === 0) throw notFound(`host: nothing is bound to ${host}`)
        throw precondition(`host: ${host} is bound by the fleet file and not by hand; change it there`)
      }
      await deleteBinding(tx, host)
      const row = await requireMachine(tx, bound.machine)
      // That it was this host is over; what it says of itself from here on it says after that.
      await changeMachine(tx, row, { acting_host: '' })
      const reason = `host ${host} unbound`
      const about = { at: clock.now(), machine: bound.machine, host, reason, actor: actorOf(caller) }
      await recordEvent(tx, { ...about, class: 'unbound' })
      return bound.machine
    })
    directory.bind(machine, undefined)
    await refreshMachines(store.db, directory, [machine])
    sessions.wake(machine)
    return {}
  }
}
