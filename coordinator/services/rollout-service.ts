import type { RolloutService } from '../../shared/gen/muster/v1/rollout_pb.ts'
import type { CallContext, Peer, ServiceHandlers } from '../../shared/rpc/definition.ts'
import { denied } from '../../shared/rpc/rpc-error.ts'
import type { Caller } from '../api/caller.ts'
import { acceptRestore } from '../rollouts/api/accept-restore.ts'
import { abortRollout, overrideGate, pauseRollout, resumeRollout } from '../rollouts/api/change-rollout.ts'
import { listStandings } from '../rollouts/api/list-standings.ts'
import { listLocks, lockHost, pinHost, unlockHost, unpinHost } from '../rollouts/api/locks.ts'
import { revertRollout } from '../rollouts/api/revert-rollout.ts'
import { getRollout, listRollouts, watchRollout } from '../rollouts/api/show-rollouts.ts'
import { startRollout } from '../rollouts/api/start-rollout.ts'
import type { OpenCalls } from './open-calls.ts'

type Deps = Parameters<typeof startRollout>[0] &
  Parameters<typeof watchRollout>[0] &
  Parameters<typeof listStandings>[0] &
  Parameters<typeof pauseRollout>[0] &
  Parameters<typeof revertRollout>[0] &
  Parameters<typeof lockHost>[0] &
  Parameters<typeof acceptRestore>[0] & { readonly openCalls: OpenCalls }

/** Rollouts, for operators and for root by the local socket. `callerOf` says who calls. */
export function rolloutService(
  deps: Deps,
  callerOf: (peer: Peer) => Caller,
): ServiceHandlers<typeof RolloutService> {
  const allowed = (peer: Peer): Caller => {
    const caller = callerOf(peer)
    if (caller.kind !== 'operator' && caller.kind !== 'local') throw denied('only an operator may call this')
    return caller
  }
  const asked =
    <Request, Answer>(handler: (request: Request, caller: Caller) => Promise<Answer>) =>
    async (request: Request, { peer }: CallContext): Promise<Answer> =>
      await handler(request, allowed(peer))
  const watch = watchRollout(deps)
  return {
    startRollout: asked(startRollout(deps)),
    listRollouts: asked(listRollouts(deps)),
    getRollout: asked(getRollout(deps)),
    listStandings: asked(listStandings(deps)),
    watchRollout: (request, { peer, signal }) =>
      deps.openCalls.stream(allowed(peer), signal, inner => watch(request, allowed(peer), inner)),
    pauseRollout: asked(pauseRollout(deps)),
    resumeRollout: asked(resumeRollout(deps)),
    abortRollout: asked(abortRollout(deps)),
    revertRollout: asked(revertRollout(deps)),
    overrideGate: asked(overrideGate(deps)),
    lockHost: asked(lockHost(deps)),
    unlockHost: asked(unlockHost(deps)),
    pinHost: asked(pinHost(deps)),
    unpinHost: asked(unpinHost(deps)),
    listLocks: asked(listLocks(deps)),
    acceptRestore: asked(acceptRestore(deps)),
  }
}
