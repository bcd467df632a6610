import type { MessageInitShape } from '@bufbuild/protobuf'
import type { Clock } from '../../shared/clock.ts'
import type {
  ConfirmTrustRequest,
  ConfirmTrustResponseSchema,
} from '../../shared/gen/muster/v1/fleet_trust_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'
import { precondition } from '../../shared/rpc/rpc-error.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import { isLive } from '../machines/entry.ts'
import type { FleetTrust } from '../machines/fleet-trust.ts'
import { refreshMachines } from '../machines/refresh.ts'
import { resolveMachine } from '../machines/resolve.ts'
import { trustNotice } from '../machines/trust-notice.ts'
import type { Sessions } from '../sessions/sessions.ts'
import { recordEvent } from '../store/events.ts'
import { changeMachine, findMachine } from '../store/machines.ts'
import type { Store } from '../store/store.ts'
import { actorOf, type Caller } from './caller.ts'

export interface ConfirmTrustDeps {
  readonly store: Store
  readonly directory: MachineDirectory
  readonly sessions: Pick<Sessions, 'send'>
  readonly trust: FleetTrust
  readonly clock: Clock
}

/**
 * Confirms what machines took at first use, if it is a set of this fleet's chain. Written before it is sent: one that is
 * away is told when it comes back.
 */
export function confirmTrust(deps: ConfirmTrustDeps) {
  return async (
    { ref }: ConfirmTrustRequest,
    caller: Caller,
  ): Promise<MessageInitShape<typeof ConfirmTrustResponseSchema>> => {
    const { store, directory, sessions, trust, clock } = deps
    const ours = new Set(trust.chain().map(envelope => sha256Hex(envelope.payload)))
    const asked = ref === '' ? [...directory.entries()] : [resolveMachine(directory, ref)]
    const waiting = asked.filter(entry => isLive(entry.state) && entry.trustFirstUse)
    const [stranger] = waiting.filter(entry => !ours.has(entry.trustDigest))
    if (ref !== '' && stranger) {
      throw precondition(
        `ref: the machine took trust set ${stranger.trustNumber} with digest ${stranger.trustDigest}, which is none of this fleet's: do not confirm it, install the machine anew with the trust pin`,
      )
    }
    let confirmed = 0
    for (const { id, trustDigest } of waiting.filter(entry => ours.has(entry.trustDigest))) {
      await store.transact(async tx => {
        const row = await findMachine(tx, id)
        if (!row) return
        await changeMachine(tx, row, { trust_confirmed: trustDigest })
        const reason = `trust set ${row.trust_number} confirmed`
        const actor = actorOf(caller)
        await recordEvent(tx, { at: clock.now(), class: 'trust-confirmed', machine: id, reason, actor })
      })
      await refreshMachines(store.db, directory, [id])
      const notice = trustNotice(directory.get(id), trust.number)
      if (notice) sessions.send(id, { message: { case: 'trust', value: notice } })
      confirmed++
    }
    return { confirmed }
  }
}
