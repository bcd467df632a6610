import { create, toBinary } from '@bufbuild/protobuf'
import { type ClusterStepEnded, ClusterStepEndedSchema } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { isDigest } from '../../../shared/ids.ts'
import type { ClusterRecord } from '../cluster-record.ts'
import { noteOver, noteSuccess, retryAfterMs } from '../steps.ts'
import { type ClusterAct, isRebuilding, isRetried } from './cluster-act.ts'

/** Longest result that is kept: lists of snapshots and certificates are bounded, and so is what a machine may say. */
const MAX_RESULT_BYTES = 256 * 1024
const MAX_CHARS = 4_000

/** What a report makes of an act and of its cluster. */
export interface AbsorbedAct {
  readonly act: ClusterAct
  readonly record: ClusterRecord
  /** The cordon that it was to set: gone, or never there. */
  readonly lifts: boolean
}

/** Classes of what was never begun, so that it left nothing behind. */
const NEVER_BEGUN: readonly string[] = [
  ...[
    'expired',
    'stopped',
    'held',
    'busy',
    'not-allowed',
    'cluster',
    'no-cluster-part',
    'manifest',
    'not-found',
  ],
  ...['not-adopted', 'precondition', 'unsupported'],
]

/** The act after its executor said how it ended. */
export function absorbActReport(
  act: ClusterAct,
  ended: ClusterStepEnded,
  record: ClusterRecord,
  now: number,
): AbsorbedAct {
  if (act.endedMs !== undefined) return { act, record, lifts: false }
  const { done } = ended
  const kind = ended.class.slice(0, 64)
  const reason = (done && ended.value.case === 'text' ? ended.value.value : ended.reason).slice(0, MAX_CHARS)
  if (!done && isRetried(act)) {
    const attempts = act.attempts + 1
    const again = { operation: '', executor: '', executorHost: '', attempts, class: kind, reason }
    return { act: { ...act, ...again, notBeforeMs: now + retryAfterMs(attempts) }, record, lifts: false }
  }
  const next: ClusterAct = { ...act, endedMs: now, done, class: kind, reason, result: keptOf(ended) }
  const lifts = act.act === 'uncordon' ? done : setsCordon(act) && !done && NEVER_BEGUN.includes(kind)
  return { act: next, record: recordAfter(record, act, done, now), lifts }
}

export function setsCordon({ act }: Pick<ClusterAct, 'act'>): boolean {
  return act === 'drain' || act === 'cordon'
}

/** What was seen before of the machine, and of the servers where it is one of them, says nothing any more. */
function recordAfter(record: ClusterRecord, act: ClusterAct, done: boolean, now: number): ClusterRecord {
  if (act.act === 'wipe') {
    return done ? noteSuccess(record, act.machine, now) : noteOver(record, act.machine, now)
  }
  if (!isRebuilding(act)) return record
  // Also where it failed: it may have come half the way.
  const settled = { ...noteOver(record, act.executor, now), settledMs: now }
  return done && act.act === 'restore' ? { ...settled, firstServer: act.executor } : settled
}

/** What is written down of an end: everything but a kubeconfig, which is for one operator and is in memory alone. */
function keptOf(ended: ClusterStepEnded): Uint8Array | undefined {
  const { done, class: kind, reason, authority, value } = ended
  const kept = create(ClusterStepEndedSchema, {
    done,
    class: kind.slice(0, 64),
    reason: reason.slice(0, MAX_CHARS),
    authority: isDigest(authority) ? authority : '',
    value: value.case === 'kubeconfig' ? { case: undefined } : value,
  })
  const bytes = toBinary(ClusterStepEndedSchema, kept)
  return bytes.length <= MAX_RESULT_BYTES ? bytes : undefined
}
