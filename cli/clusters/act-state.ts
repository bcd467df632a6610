import type { ClusterAct } from '../../shared/gen/muster/v1/cluster_pb.ts'
import type { ExitName } from '../exit-codes.ts'

/** Ends in which nothing was touched: a node or the coordinator would not. */
const REFUSALS: ReadonlySet<string> = new Set([
  'precondition',
  'unsupported',
  'quorum',
  'not-ours',
  'not-adopted',
  'data-present',
  'name-taken',
  'expired',
  'stopped',
  'held',
  'busy',
  'not-allowed',
  'cluster',
  'no-cluster-part',
  'manifest',
])

/** How a command ends by what came of an act. What is not known to be done never counts as done. */
export function exitForAct({ ended, result }: ClusterAct): ExitName {
  if (!ended) return 'unknown'
  if (!result || result.done) return 'ok'
  if (result.class === 'not-found') return 'notFound'
  return REFUSALS.has(result.class) || /^(order|mint|secret)-/.test(result.class) ? 'refused' : 'failed'
}

export function isDone(act: ClusterAct): boolean {
  return exitForAct(act) === 'ok'
}

/** The exit code for acts on several hosts. */
export function exitForActs(acts: readonly ClusterAct[]): ExitName {
  const exits = acts.map(exitForAct)
  const good = exits.filter(exit => exit === 'ok').length
  if (good === exits.length) return 'ok'
  if (good > 0) return 'partial'
  return exits.find(exit => exit === 'failed') ?? exits.find(exit => exit === 'unknown') ?? exits[0] ?? 'ok'
}

/** What an act is about, for people. */
export function subjectOf({ host, cluster }: Pick<ClusterAct, 'host' | 'cluster'>): string {
  return host || cluster
}

/** The state of an act in a few words. */
export function actState(act: ClusterAct): string {
  const { ended, result, reason, executor } = act
  if (ended) {
    if (!result) return reason || 'done'
    if (!result.done)
      return [result.class || 'failed', result.reason || reason].filter(t => t !== '').join(': ')
    return (result.value.case === 'text' ? result.value.value : '') || reason || 'done'
  }
  if (reason !== '') return `waits: ${reason}`
  return executor === '' ? 'ordered' : `${executor} does it`
}
