import type { MessageInitShape } from '@bufbuild/protobuf'
import type { Clock } from '../../shared/clock.ts'
import type {
  ReportFailureRequest,
  ReportFailureResponseSchema,
} from '../../shared/gen/muster/v1/enrolment_pb.ts'
import { isDigest } from '../../shared/ids.ts'
import type { CallContext } from '../../shared/rpc/definition.ts'
import { exhausted, invalid } from '../../shared/rpc/rpc-error.ts'
import { recordEvent } from '../store/events.ts'
import type { Store } from '../store/store.ts'
import type { RefusalLog } from './refusal-log.ts'
import type { StrangerThrottle } from './stranger-throttle.ts'

export interface ReportFailureDeps {
  readonly store: Store
  readonly clock: Clock
  readonly strangers: StrangerThrottle
  readonly refusals: Pick<RefusalLog, 'takeRoom'>
}

const MAX_BYTES = 4 * 1024

/** Takes down why a machine cannot enrol, for operators. Nobody proved a word of it, and the record says so. */
export function reportFailure({ store, clock, strangers, refusals }: ReportFailureDeps) {
  return async (
    request: ReportFailureRequest,
    { peer }: Pick<CallContext, 'peer'>,
  ): Promise<MessageInitShape<typeof ReportFailureResponseSchema>> => {
    const { machine, class: kind, reason, serial } = request
    const bytes = [machine, kind, reason, serial].reduce((sum, text) => sum + Buffer.byteLength(text), 0)
    if (bytes > MAX_BYTES) throw invalid(`reason: the report is larger than ${MAX_BYTES} bytes`)
    if (machine !== '' && !isDigest(machine)) throw invalid('machine: is no id of a machine')
    const now = clock.now()
    const seconds = strangers.take(peer.address, now.getTime())
    if (seconds > 0) throw exhausted(`too many reports at once; report again in ${seconds} s`)
    if (!refusals.takeRoom(now)) throw exhausted('too many reports are kept already; report again later')
    await store.transact(tx =>
      recordEvent(tx, {
        at: now,
        class: 'enrolment-failed',
        machine,
        reason: `${kind}: ${reason} (claimed by ${peer.address || 'an unknown address'}, serial ${serial || 'unknown'})`,
        actor: 'stranger',
      }),
    )
    return {}
  }
}
