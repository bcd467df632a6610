import type { MessageInitShape } from '@bufbuild/protobuf'
import type { Clock } from '../../shared/clock.ts'
import type { BackupRequest, BackupResponseSchema } from '../../shared/gen/muster/v1/backup_pb.ts'
import type { Logger } from '../../shared/log.ts'
import { exhausted } from '../../shared/rpc/rpc-error.ts'
import { type BackupSource, makeBackup } from '../backup/make-backup.ts'
import { recordEvent } from '../store/events.ts'
import { actorOf, type Caller } from './caller.ts'

export interface BackupDeps extends BackupSource {
  readonly clock: Clock
  readonly log: Logger
}

/** Streams a copy of everything the coordinator keeps. One at a time: each takes the room of a store on disk. */
export function backup(deps: BackupDeps) {
  let running = false
  return async function* (
    _request: BackupRequest,
    caller: Caller,
    signal: AbortSignal,
  ): AsyncGenerator<MessageInitShape<typeof BackupResponseSchema>> {
    if (running) throw exhausted('another backup is running; wait for it')
    running = true
    try {
      const { store, clock, log } = deps
      const actor = actorOf(caller)
      await store.transact(tx =>
        recordEvent(tx, { at: clock.now(), class: 'backup', reason: 'a backup was begun', actor }),
      )
      for await (const chunk of makeBackup(deps, clock.now())) {
        yield { chunk }
        if (signal.aborted) return
      }
      log.info({ actor }, 'backup made')
    } finally {
      running = false
    }
  }
}
