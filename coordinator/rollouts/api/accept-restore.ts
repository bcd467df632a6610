import type { Clock } from '../../../shared/clock.ts'
import type { AcceptRestoreRequest } from '../../../shared/gen/muster/v1/rollout_pb.ts'
import { precondition } from '../../../shared/rpc/rpc-error.ts'
import { actorOf, type Caller } from '../../api/caller.ts'
import type { Sessions } from '../../sessions/sessions.ts'
import type { RestoreWatch } from '../restore-watch.ts'
import { readWhy } from './locks.ts'

export interface AcceptRestoreDeps {
  readonly clock: Clock
  readonly restoreWatch: RestoreWatch
  readonly onRolloutsChanged: () => void
  readonly sessions: Pick<Sessions, 'machines' | 'wake'>
}

/** Lets rollouts begin again after an operator looked at what the store lacks. */
export function acceptRestore({ clock, restoreWatch, onRolloutsChanged, sessions }: AcceptRestoreDeps) {
  return async (request: AcceptRestoreRequest, caller: Caller): Promise<{ accepted: string[] }> => {
    const why = readWhy(request.why)
    const accepted = await restoreWatch.accept(actorOf(caller), why, clock.now())
    if (accepted.length === 0) {
      throw precondition('nodes report nothing that this store lacks, so there is nothing to accept')
    }
    onRolloutsChanged()
    // Orders that stood in the store were withheld.
    for (const machine of [...sessions.machines()]) sessions.wake(machine)
    return { accepted: [...accepted] }
  }
}
