import type { Decision } from '../decision.ts'
import { jobsAwaited } from '../job-gates.ts'
import { gatesAwaited } from '../own-gates.ts'
import type { RolloutRecord } from '../rollout-record.ts'
import { checkDecision } from './check-decision.ts'
import { askGates, askJobs, giveJobs, snapshotOf, writeDecision } from './simulated-coordinator.ts'
import { type Fleet, makeFleet, passTime, TICK_MS } from './simulated-fleet.ts'
import {
  becomeQuiet,
  beginFirst,
  beginMore,
  causeTrouble,
  isCalledOff,
  isForbidden,
  isKept,
  leftBehind,
  mend,
  type Planner,
  type SimulationOptions,
} from './simulated-operators.ts'

export interface SimulationResult {
  readonly violations: readonly string[]
  /** What was not over when all had been quiet for long enough. */
  readonly unsettled: readonly string[]
  readonly counts: Fleet['counts']
  readonly ended: Readonly<Record<string, number>>
  /** Decisions in which anything was granted, closed or ended. */
  readonly decisions: number
}

/** The coordinator is killed at this decision, counted from 1, before or after it was written. */
export interface Kill {
  readonly decision: number
  readonly written: boolean
}

const FAULTY_TICKS = 300
/** Rollouts one after the other may each wait for the window of every host, a day for some. */
const MOST_TICKS = 5_000
/** When nothing has happened for so long somebody looks at what has failed. */
const MENDED_TICKS = 100
/** So often the coordinator, or a person, looks for what is to be begun. */
const BEGIN_EVERY_TICKS = 3
/** When nothing is under way and nothing may be begun, time goes faster. */
const IDLE_MS = 120_000

/** A hundred minutes of everything that can go wrong while rollouts go on, then quiet: says what was violated, and what did not end. */
export function simulateRollouts(options: SimulationOptions, plan: Planner, kill?: Kill): SimulationResult {
  let decisions = 0
  const fleet = makeFleet(options)
  beginFirst(fleet, options)
  const asked = { count: 0 }
  let still = 0
  let more = true
  for (let tick = 0; tick < MOST_TICKS && (fleet.rollouts.length > 0 || more); tick++) {
    fleet.faulty = tick < FAULTY_TICKS
    const busy = fleet.faulty || still < 5
    passTime(fleet, busy ? TICK_MS : IDLE_MS)
    if (fleet.faulty) causeTrouble(fleet, options)
    if (tick === FAULTY_TICKS) becomeQuiet(fleet)
    if (fleet.upAtMs > fleet.nowMs) continue
    if (tick % BEGIN_EVERY_TICKS === 0 || still > 0) more = beginMore(fleet, options, plan, asked)
    const decided = turn(fleet, plan, decision => {
      const isOne = decision.grants.length + decision.closings.length + decision.moves.length > 0
      if (isOne) decisions += 1
      return written => isOne && kill?.decision === decisions && kill.written === written
    })
    const underWay = [...fleet.jobs.values()].some(({ state }) => state === 'open')
    still = decided || underWay ? 0 : still + 1
    // Where something ended somebody may have something to begin.
    more ||= decided
    if (!fleet.faulty && still > 0 && still % MENDED_TICKS === 0) mend(fleet)
    if (fleet.violations.length > 0) break
  }
  const ended: Record<string, number> = {}
  for (const { state } of fleet.over.values()) ended[state] = (ended[state] ?? 0) + 1
  return {
    violations: fleet.violations,
    unsettled: whatIsUnsettled(fleet, options, plan),
    counts: fleet.counts,
    ended,
    decisions,
  }
}

function turn(
  fleet: Fleet,
  plan: Planner,
  decided: (decision: Decision) => (written: boolean) => boolean,
): boolean {
  const { random, counts } = fleet
  const snapshot = snapshotOf(fleet)
  const decision = plan(snapshot, fleet.nowMs)
  checkDecision(fleet, snapshot, decision)
  const isKilled = decided(decision)
  // Killed before it was written: nothing of it has happened.
  if ((fleet.faulty && random.chance(0.05)) || isKilled(false)) {
    counts.lost += 1
    restart(fleet)
    return true
  }
  const handsBack = decision.grants.filter(
    ({ step, skipped }) => step === 'uncordon' && skipped === undefined,
  )
  counts.handedBack += handsBack.filter(({ rollout, host }) => !hasActed(fleet, rollout, host)).length
  writeDecision(fleet, decision)
  const awaited = fleet.askGates ? gatesAwaited(snapshot, decision) : new Set<string>()
  askGates(fleet, awaited)
  const jobs = fleet.askJobs ? jobsAwaited(snapshot, decision) : new Set<string>()
  askJobs(fleet, jobs)
  // Killed after it was written: whoever starts next asks for what was granted.
  if ((fleet.faulty && random.chance(0.05)) || isKilled(true)) restart(fleet)
  else giveJobs(fleet)
  // An answer comes within moments: while one is waited for, time does not leap over it.
  return (
    awaited.size + jobs.size + decision.grants.length + decision.closings.length + decision.moves.length > 0
  )
}

function hasActed({ rollouts }: Fleet, rollout: string, name: string): boolean {
  const host = rollouts.find(({ id }) => id === rollout)?.hosts.find(one => one.host === name)
  return host?.grants.some(({ step }) => step === 'act') ?? false
}

function restart(fleet: Fleet): void {
  fleet.counts.restarts += 1
  fleet.gateAnswers.clear()
  fleet.jobAnswers.clear()
  fleet.jobsAsked.clear()
  fleet.seen.clear()
  fleet.upAtMs = fleet.nowMs + fleet.random.below(90_000)
  fleet.blindUntilMs = fleet.upAtMs + fleet.random.below(60_000)
  for (const box of fleet.boxes.values()) box.sessionMs = undefined
}

function whatIsUnsettled(fleet: Fleet, options: SimulationOptions, plan: Planner): string[] {
  if (fleet.violations.length > 0) return []
  if (fleet.rollouts.length > 0) {
    const { waits } = plan(snapshotOf(fleet), fleet.nowMs)
    return fleet.rollouts.map(({ id, state }) => {
      const [held] = waits.get(id) ?? []
      return `${id} is ${state}; ${held?.[0]}: ${held?.[1].map(({ gate, reason }) => `${gate}: ${reason}`).join('; ')}`
    })
  }
  return [...whatIsLeftOver(fleet), ...whoIsElsewhere(fleet, options)]
}

/** What rollouts that are over left lying about, or left behind without a word. */
function* whatIsLeftOver(fleet: Fleet): Iterable<string> {
  for (const { record, state, reason, onlyLocked } of fleet.over.values()) {
    for (const { host, grants } of record.hosts) {
      const box = fleet.boxes.get(host)
      const failed = grants.some(({ end }) => end?.outcome === 'failed')
      const isDone = grants.some(
        ({ step, end }) => step === 'act' && (end?.outcome === 'done' || end?.outcome === 'skipped'),
      )
      const done = isDone && !failed
      if (!failed && box?.cordoned && !isFailedElsewhere(fleet, host)) yield `${host} is still cordoned`
      const isNamed = reason.includes(host) || reason.includes(' more')
      if (state === 'succeeded' && !done && !isNamed) {
        yield `${record.id} has succeeded, and nobody said that ${host} was left behind`
      }
      if (grants.some(({ end }) => !end)) yield `${record.id} is over, and something is under way on ${host}`
      const isOpened = record.overrides.has(`${host} lock`) && onlyLocked.has(host)
      const isHeld = !box || box.quarantined.has(record.revision) || isForbidden(fleet, box, record)
      if (state === 'succeeded' && !done && isOpened && !isHeld)
        yield `the lock of ${host} was opened for ${record.id}, which left it behind`
    }
  }
}

/** Hosts that run something else than the last rollout to a revision said, and that nobody named. */
function* whoIsElsewhere(fleet: Fleet, options: SimulationOptions): Iterable<string> {
  for (const cluster of fleet.lost) yield `the datastore of ${cluster} is lost, and was not restored`
  for (const [host, { record }] of leftBehind(fleet)) {
    const box = fleet.boxes.get(host)
    if (!box || isKept(fleet, box, record) || isCalledOff(fleet, options)) continue
    yield `${host} was left behind by ${record.id}, and did not catch up`
  }
  for (const { record, state, reason } of fleet.over.values()) {
    const { reverts } = record
    if (reverts === undefined || state !== 'succeeded') continue
    for (const { host } of record.hosts) {
      const box = fleet.boxes.get(host)
      const was = box?.before.get(reverts)
      if (!box || was === undefined || isMovedSince(fleet, record, host)) continue
      if (box.revision === was || reason.includes(host) || reason.includes(' more')) continue
      yield `${host} was to go back to ${was}, and runs ${box.revision}`
    }
  }
}

function isMovedSince({ over }: Fleet, { startedMs, id: own }: RolloutRecord, name: string): boolean {
  return [...over.values()].some(
    ({ record: { id, startedMs: began, hosts } }) =>
      id !== own &&
      began >= startedMs &&
      hosts.some(({ host, grants }) => host === name && grants.some(({ step }) => step === 'act')),
  )
}

function isFailedElsewhere({ over }: Fleet, name: string): boolean {
  return [...over.values()].some(({ record }) =>
    record.hosts.some(
      ({ host, grants }) => host === name && grants.some(({ end }) => end?.outcome === 'failed'),
    ),
  )
}
