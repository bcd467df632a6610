import type { MessageInitShape } from '@bufbuild/protobuf'
import type { Clock } from '../../shared/clock.ts'
import type { RestoreRequest, RestoreResponseSchema } from '../../shared/gen/muster/v1/backup_pb.ts'
import type { Logger } from '../../shared/log.ts'
import { exhausted } from '../../shared/rpc/rpc-error.ts'
import { stageRestore } from '../backup/stage-restore.ts'
import { recordEvent } from '../store/events.ts'
import type { Store } from '../store/store.ts'
import { actorOf, type Caller } from './caller.ts'

export interface RestoreDeps {
  readonly stateDir: string
  readonly store: Store
  readonly clock: Clock
  readonly log: Logger
  /** Stops and starts the coordinator anew, after the answer was sent. */
  readonly requestRestart: (reason: string) => void
}

/** Takes a backup in, checks all of it, and starts anew from it. Anything wrong with it leaves everything as it was. */
export function restore(deps: RestoreDeps) {
  let running = false
  return async (
    requests: AsyncIterable<RestoreRequest>,
    caller: Caller,
    signal: AbortSignal,
  ): Promise<MessageInitShape<typeof RestoreResponseSchema>> => {
    if (running) throw exhausted('another restore is running, or waits for the restart')
    running = true
    let staged = false
    try {
      const { stateDir, store, clock, log } = deps
      const ready = await stageRestore(stateDir, chunksOf(requests, signal), clock.now())
      staged = true
      const actor = actorOf(caller)
      const what = `the state of ${ready.made}: ${ready.machines} machines, ${ready.revisions} revisions`
      // In the state that is left: whoever looks at it later sees why it ends here.
      await store.transact(tx =>
        recordEvent(tx, { at: clock.now(), class: 'restore', reason: `replaced by ${what}`, actor }),
      )
      log.warn({ actor, ...ready }, 'restore received, starting anew from it')
      deps.requestRestart('restore')
      return {
        summary: `restored ${what}; nothing is granted until you looked at what was done since and said \`muster rollout accept\``,
      }
    } finally {
      running = staged
    }
  }
}

async function* chunksOf(
  requests: AsyncIterable<RestoreRequest>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for await (const { chunk } of requests) {
    if (signal.aborted) return
    yield chunk
  }
}
