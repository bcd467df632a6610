import type { RolloutMove, Wait } from './decision.ts'
import { LEAVES_BEHIND } from './gates.ts'
import { newestGrants } from './host-steps.ts'
import type { HostRecord, RolloutRecord } from './rollout-record.ts'
import type { RolloutSnapshot } from './rollout-snapshot.ts'
import type { Standing } from './standing.ts'

/** Hosts that failed, and why, in the order in which they are named. */
export function failuresOf(standing: Standing): readonly string[] {
  return standing.failed().map(name => {
    const progress = standing.progress(name)
    return `${name}: ${progress?.kind === 'failed' ? progress.reason : 'failed'}`
  })
}

/** Whether so many have failed, or such, that nothing new is begun. */
export function isStopped(standing: Standing): boolean {
  const { onFailure, maxFailures } = standing.rollout.settings
  const failed = standing.failed()
  const most = onFailure === 'continue' ? (maxFailures ?? Number.POSITIVE_INFINITY) : 1
  return failed.length >= most || failed.some(name => standing.host(name)?.canary === true)
}

/** Whether a rollout is over, or can never go on; undefined: it stays as it is. */
export function judgeRollout(
  { others }: RolloutSnapshot,
  standing: Standing,
  waits: ReadonlyMap<string, readonly Wait[]>,
  nowMs: number,
): RolloutMove | undefined {
  const { rollout } = standing
  const rest: string[] = []
  let underWay = false
  let changed = false
  for (const name of standing.names()) {
    const progress = standing.progress(name)
    if (progress?.kind === 'waiting') rest.push(name)
    // What is under way goes to its end first, also what only lifts a cordon.
    underWay ||= progress?.kind === 'moving' || (progress?.kind === 'waiting' && progress.open !== undefined)
    changed ||= hasActed(standing.host(name))
  }
  const failed = failuresOf(standing)
  const end = (state: 'succeeded' | 'failed' | 'aborted', reason: string): RolloutMove => ({
    rollout: rollout.id,
    state,
    endsAs: state === 'succeeded' ? undefined : state,
    reason,
    revert: state === 'failed' && rollout.settings.onFailure === 'revert' && changed,
  })
  if (underWay) return undefined
  const whatFailed = failed.length === 0 ? '' : `${failed.length} failed: ${failed.slice(0, 3).join('; ')}`
  if (rollout.state === 'ending') return end(rollout.endsAs ?? 'aborted', whatFailed)
  const lost = rollout.after.find(id => ['failed', 'aborted'].includes(others.get(id) ?? 'aborted'))
  if (lost !== undefined && rest.length > 0 && !waitsFor(rest, waits, 'rollout')) return undefined
  if (lost !== undefined && rest.length > 0) {
    return end('failed', `rollout ${lost}, which it waited for, is ${others.get(lost) ?? 'not known'}`)
  }
  if (rest.length === 0) return failed.length > 0 ? end('failed', whatFailed) : end('succeeded', '')
  if (rollout.state === 'paused') return undefined
  const { stuck, away } = whoIsStuck(standing, rest, waits)
  if (rest.some(name => !stuck.has(name))) return undefined
  if (away && nowMs - newestActivity(rollout, standing) < rollout.settings.awayMs) return undefined
  const more = rest.length > 10 ? ` and ${rest.length - 10} more` : ''
  const stragglers = `left behind: ${rest.slice(0, 10).join(', ')}${more}`
  return failed.length > 0 ? end('failed', `${whatFailed}; ${stragglers}`) : end('succeeded', stragglers)
}

function waitsFor(
  rest: readonly string[],
  waits: ReadonlyMap<string, readonly Wait[]>,
  gate: Wait['gate'],
): boolean {
  return rest.some(name => waits.get(name)?.some(wait => wait.gate === gate))
}

/** Hosts for which nothing that this rollout does opens a gate: somebody else must, or whoever they wait for has failed or is such a host. */
function whoIsStuck(
  standing: Standing,
  rest: readonly string[],
  waits: ReadonlyMap<string, readonly Wait[]>,
) {
  const stuck = new Set<string>()
  const waiters = new Map<string, string[]>()
  const queue: string[] = []
  let away = false
  for (const name of rest) {
    for (const { gate, on } of waits.get(name) ?? []) {
      away ||= gate === 'away'
      const isLost = on !== undefined && standing.progress(on)?.kind === 'failed'
      if (isLost || LEAVES_BEHIND.includes(gate)) queue.push(name)
      else if (on !== undefined) {
        const known = waiters.get(on)
        if (known) known.push(name)
        else waiters.set(on, [name])
      }
    }
  }
  for (let name = queue.pop(); name !== undefined; name = queue.pop()) {
    if (stuck.has(name)) continue
    stuck.add(name)
    queue.push(...(waiters.get(name) ?? []))
  }
  return { stuck, away }
}

function hasActed(host: HostRecord | undefined): boolean {
  return host !== undefined && newestGrants(host).get('act')?.end?.outcome === 'done'
}

/** When anything was last granted or closed. */
function newestActivity({ startedMs }: RolloutRecord, standing: Standing): number {
  let newest = startedMs
  for (const name of standing.names()) {
    for (const { grantedMs, end } of standing.host(name)?.grants ?? []) {
      newest = Math.max(newest, grantedMs, end?.atMs ?? 0)
    }
  }
  return newest
}
