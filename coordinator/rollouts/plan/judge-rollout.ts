import type { RolloutMove, Wait } from './decision.ts'
import { howItStands, LEAVES_BEHIND } from './gates.ts'
import { newestGrants } from './host-steps.ts'
import type { HostRecord, RolloutRecord } from './rollout-record.ts'
import { type HostView, MOVED_NOBODY, type RolloutSnapshot } from './rollout-snapshot.ts'
import type { Standing } from './standing.ts'

/** How a rollout stands that will never have succeeded. */
const LOST: readonly string[] = ['failed', 'aborted', MOVED_NOBODY]

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
  snapshot: RolloutSnapshot,
  standing: Standing,
  waits: ReadonlyMap<string, readonly Wait[]>,
  nowMs: number,
): RolloutMove | undefined {
  const { rollout } = standing
  const { others } = snapshot
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
  const lost = rollout.after.find(id => LOST.includes(others.get(id) ?? 'aborted'))
  const whyLost =
    lost === undefined ? '' : `rollout ${lost}, which it waited for, ${howItStands(others.get(lost))}`
  // For whom an operator opened that gate it goes on.
  const isLost = (name: string) => lost !== undefined && waitsAt('rollout', waits.get(name))
  if (rest.length > 0 && rest.every(isLost)) return end('failed', whyLost)
  if (rest.length === 0) return failed.length > 0 ? end('failed', whatFailed) : end('succeeded', '')
  if (rollout.state === 'paused') return undefined
  // What went on while no coordinator ran was seen by nobody.
  const activeMs = Math.max(newestActivity(rollout, standing), snapshot.watchedSinceMs)
  const isStill = nowMs - activeMs >= rollout.settings.awayMs
  const gone = (name: string) => isGone(snapshot.hosts.get(name), rollout.settings.awayMs, nowMs)
  const { stuck, aside, away } = whoIsStuck(standing, rest, waits, { gone, isLost, isStill })
  if (rest.some(name => !stuck.has(name))) return undefined
  if (away && !isStill) return undefined
  const blocked = rest.filter(name => !aside.has(name))
  const reasons = [
    ...(failed.length > 0 ? [whatFailed] : []),
    ...(rest.some(isLost) ? [whyLost] : []),
    ...(aside.size > 0 ? [`left behind: ${namesOf([...aside])}`] : []),
    ...(blocked.length > 0 ? [`never had their turn, for they go after these: ${namesOf(blocked)}`] : []),
  ]
  const move = end(failed.length + blocked.length > 0 ? 'failed' : 'succeeded', reasons.join('; '))
  // Nothing is wrong with what was changed when only others could not be.
  return failed.length > 0 ? move : { ...move, revert: false }
}

function namesOf(names: readonly string[]): string {
  const more = names.length > 10 ? ` and ${names.length - 10} more` : ''
  return `${names.slice(0, 10).join(', ')}${more}`
}

const waitsAt = (gate: Wait['gate'], held: readonly Wait[] = []): boolean =>
  held.some(wait => wait.gate === gate)

/**
 * Hosts for which nothing that this rollout does opens a gate: those that only somebody else can help stand aside, the others wait for
 * these, or for what failed. `gone`: it has been away for so long that it is waited for no more. `isLost`: it waits for a rollout that will
 * never have succeeded. `isStill`: what failed did so long ago that nobody mends it, and what it takes of a budget is not given back.
 */
function whoIsStuck(
  standing: Standing,
  rest: readonly string[],
  waits: ReadonlyMap<string, readonly Wait[]>,
  {
    gone,
    isLost,
    isStill,
  }: {
    readonly gone: (name: string) => boolean
    readonly isLost: (name: string) => boolean
    readonly isStill: boolean
  },
) {
  const stuck = new Set<string>()
  const aside = new Set<string>()
  const waiters = new Map<string, string[]>()
  const queue: string[] = []
  let away = false
  for (const name of rest) {
    if (isLost(name)) {
      queue.push(name)
      continue
    }
    for (const { gate, on, byFailed } of waits.get(name) ?? []) {
      away ||= gate === 'away'
      const byLost =
        on === undefined ? isStill && byFailed === true : standing.progress(on)?.kind === 'failed'
      const isAside = gate === 'away' ? gone(name) : LEAVES_BEHIND.includes(gate)
      if (isAside) aside.add(name)
      if (byLost || isAside) queue.push(name)
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
  return { stuck, aside, away }
}

/** Whoever lost its session a moment ago, as everybody does when the coordinator starts, is on its way back. */
function isGone(view: HostView | undefined, awayMs: number, nowMs: number): boolean {
  return view?.awaySinceMs === undefined || nowMs - view.awaySinceMs >= awayMs
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
