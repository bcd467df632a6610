import type { RolloutMove, Wait } from './decision.ts'
import { LEAVES_BEHIND } from './gates.ts'
import { progressOf } from './host-steps.ts'
import type { RolloutRecord } from './rollout-record.ts'
import type { RolloutSnapshot } from './rollout-snapshot.ts'

/** Whether a rollout is over, or can never go on; undefined: it stays as it is. */
export function judgeRollout(
  { others }: RolloutSnapshot,
  rollout: RolloutRecord,
  waits: ReadonlyMap<string, readonly Wait[]>,
  nowMs: number,
): RolloutMove | undefined {
  const standings = rollout.hosts.map(host => ({ host, progress: progressOf(rollout, host) }))
  const count = (kind: string) => standings.filter(({ progress }) => progress.kind === kind).length
  const failed = standings.flatMap(({ host, progress }) =>
    progress.kind === 'failed' ? [`${host.host}: ${progress.reason}`] : [],
  )
  // What is under way goes to its end first, also what only lifts a cordon.
  const underWay = standings.some(({ progress }) => progress.kind === 'moving' || hasOpen(progress))
  const end = (state: 'succeeded' | 'failed' | 'aborted', reason: string): RolloutMove => ({
    rollout: rollout.id,
    state,
    endsAs: state === 'succeeded' ? undefined : state,
    reason,
    revert: state === 'failed' && rollout.settings.onFailure === 'revert' && count('done') > 0,
  })
  const whatFailed = failed.length === 0 ? '' : `${failed.length} failed: ${failed.slice(0, 3).join('; ')}`
  if (rollout.state === 'ending') {
    return underWay ? undefined : end(rollout.endsAs ?? 'aborted', whatFailed)
  }
  const lost = rollout.after.find(id => ['failed', 'aborted'].includes(others.get(id) ?? 'aborted'))
  if (lost !== undefined && !underWay) {
    return end('failed', `rollout ${lost}, which it waited for, is ${others.get(lost) ?? 'not known'}`)
  }
  const rest = standings.filter(({ progress }) => progress.kind === 'waiting')
  if (rest.length === 0 && !underWay) {
    return failed.length > 0 ? end('failed', whatFailed) : end('succeeded', '')
  }
  if (underWay || rollout.state === 'paused') return undefined
  const isStraggler = (host: string) =>
    waits.get(host)?.some(({ gate }) => LEAVES_BEHIND.includes(gate)) ?? false
  if (!rest.every(({ host }) => isStraggler(host.host))) return undefined
  const isAway = rest.some(({ host }) => waits.get(host.host)?.some(({ gate }) => gate === 'away'))
  if (isAway && nowMs - newestActivity(rollout) < rollout.settings.awayMs) return undefined
  const names = rest.map(({ host }) => host.host)
  const more = names.length > 10 ? ` and ${names.length - 10} more` : ''
  const stragglers = `left behind: ${names.slice(0, 10).join(', ')}${more}`
  return failed.length > 0 ? end('failed', `${whatFailed}; ${stragglers}`) : end('succeeded', stragglers)
}

function hasOpen(progress: ReturnType<typeof progressOf>): boolean {
  return progress.kind === 'waiting' && progress.open !== undefined
}

/** When anything was last granted or closed. */
function newestActivity({ startedMs, hosts }: RolloutRecord): number {
  let newest = startedMs
  for (const { grants } of hosts) {
    for (const { grantedMs, end } of grants) newest = Math.max(newest, grantedMs, end?.atMs ?? 0)
  }
  return newest
}
