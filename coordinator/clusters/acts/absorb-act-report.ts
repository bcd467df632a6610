import { create, toBinary } from '@bufbuild/protobuf'
import { type ClusterStepEnded, ClusterStepEndedSchema } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { isDigest } from '../../../shared/ids.ts'
import type { ClusterRecord } from '../cluster-record.ts'
import { setBack } from '../set-back.ts'
import { noteOver, noteSuccess, retryAfterMs } from '../steps.ts'
import { type ClusterAct, type CordonAfter, isRebuilding, isRetried } from './cluster-act.ts'

/** Longest result that is kept: lists of snapshots and certificates are bounded, and so is what a machine may say. */
const MAX_RESULT_BYTES = 256 * 1024
const MAX_CHARS = 4_000

/** What a report makes of an act and of its cluster. */
export interface AbsorbedAct {
  readonly act: ClusterAct
  readonly record: ClusterRecord
  readonly cordon: CordonAfter
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

export function isNeverBegun(kind: string): boolean {
  return NEVER_BEGUN.includes(kind)
}

/** The class of a cordon that is not the one to be lifted: it stays. */
export const NOT_OURS = 'not-ours'

/** What no further attempt changes: a cordon that is somebody else's by now, or on a node that is gone. */
function isForGood({ act }: ClusterAct, kind: string): boolean {
  return act === 'uncordon' && (kind === NOT_OURS || kind === 'not-found')
}

/** The act after its executor said how it ended. */
export function absorbActReport(
  act: ClusterAct,
  ended: ClusterStepEnded,
  record: ClusterRecord,
  now: number,
): AbsorbedAct {
  if (act.endedMs !== undefined) {
    // What is said too late is as true: a machine that became the only server is that.
    const isLate = act.act === 'restore' && ended.done
    return { act, record: isLate ? recordAfter(record, act, ended, now) : record, cordon: AS_BEFORE }
  }
  const { done } = ended
  const kind = ended.class.slice(0, 64)
  const reason = (done && ended.value.case === 'text' ? ended.value.value : ended.reason).slice(0, MAX_CHARS)
  if (!done && isRetried(act) && !isForGood(act, kind)) {
    const attempts = act.attempts + 1
    const again = { operation: '', executor: '', executorHost: '', attempts, class: kind, reason }
    return {
      act: { ...act, ...again, notBeforeMs: now + retryAfterMs(attempts) },
      record,
      cordon: AS_BEFORE,
    }
  }
  const next: ClusterAct = { ...act, endedMs: now, done, class: kind, reason, result: keptOf(ended) }
  return { act: next, record: recordAfter(record, act, ended, now), cordon: cordonAfter(act, ended) }
}

const AS_BEFORE = { kind: 'as-before' } as const

/** What the node says counts. A server that does not say it takes over any cordon of ours, and lifts none that is not there. */
function cordonAfter(
  { id, act }: ClusterAct,
  { done, class: kind, cordonedBy }: ClusterStepEnded,
): CordonAfter {
  const sets = act === 'drain' || act === 'cordon'
  if (!sets && act !== 'uncordon') return AS_BEFORE
  if (cordonedBy !== undefined) {
    return cordonedBy === '' ? { kind: 'none' } : { kind: 'of', act: cordonedBy.slice(0, 64) }
  }
  if (!sets) return done || kind === NOT_OURS ? { kind: 'none' } : AS_BEFORE
  if (done) return { kind: 'of', act: id }
  return isNeverBegun(kind) ? { kind: 'none', act: id } : AS_BEFORE
}

/** What was seen before of the machine, and of the servers where it is one of them, says nothing any more. */
function recordAfter(
  record: ClusterRecord,
  act: ClusterAct,
  { done, authority }: ClusterStepEnded,
  now: number,
): ClusterRecord {
  if (act.act === 'wipe') {
    return done ? noteSuccess(record, act.machine, now) : noteOver(record, act.machine, now)
  }
  if (!isRebuilding(act)) return record
  if (done && act.act === 'restore') {
    // Told twice it was set back once.
    if (record.founding?.state === 'founded' && record.founding.operation === act.operation) return record
    const by = { machine: act.executor, host: act.executorHost, operation: act.operation }
    return setBack(record, by, isDigest(authority) ? authority : '', now)
  }
  // Also where it failed: it may have come half the way.
  const settled = { ...noteOver(record, act.executor, now), settledMs: now }
  const { founding } = settled
  return founding?.state === 'ordered' && founding.operation === act.operation
    ? { ...settled, founding: { ...founding, state: 'failed' } }
    : settled
}

/** What is written down of an end: everything but a kubeconfig, which is for one operator and is in memory alone. */
export function keptOf(ended: ClusterStepEnded): Uint8Array | undefined {
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
