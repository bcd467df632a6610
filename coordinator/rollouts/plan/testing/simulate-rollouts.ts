import type { Amount } from '../../../../shared/rollout/amount.ts'
import type { FailurePolicy } from '../../../../shared/rollout/rollout-bounds.ts'
import type { Decision } from '../decision.ts'
import { gatesAwaited } from '../own-gates.ts'
import type { HostRecord, RolloutAction, RolloutRecord } from '../rollout-record.ts'
import type { RolloutSnapshot } from '../rollout-snapshot.ts'
import { checkDecision } from './check-decision.ts'
import { askGates, giveJobs, snapshotOf, writeDecision } from './simulated-coordinator.ts'
import { type Box, type Fleet, type FleetOptions, makeFleet, passTime, TICK_MS } from './simulated-fleet.ts'

export type Planner = (snapshot: RolloutSnapshot, nowMs: number) => Decision

export interface SimulationOptions extends FleetOptions {
  readonly maxUnavailable: Amount
  readonly onFailure: FailurePolicy
  readonly maxFailures: number | undefined
  readonly spread: boolean
  readonly canaries: number
  readonly actions: readonly RolloutAction[]
}

export interface SimulationResult {
  readonly violations: readonly string[]
  /** What was not over when all had been quiet for long enough. */
  readonly unsettled: readonly string[]
  readonly counts: Fleet['counts']
  readonly ended: Readonly<Record<string, number>>
}

const FAULTY_TICKS = 300
const MOST_TICKS = 5_000
/** When nothing has happened for so long somebody looks at what has failed. */
const MENDED_TICKS = 100
/** When nothing is under way and nothing may be begun, time goes faster. */
const IDLE_MS = 120_000

/** A hundred minutes of everything that can go wrong while rollouts go on, then quiet: says what was violated, and what did not end. */
export function simulateRollouts(options: SimulationOptions, plan: Planner): SimulationResult {
  const fleet = makeFleet(options)
  fleet.rollouts = beginRollouts(fleet, options)
  let still = 0
  for (let tick = 0; tick < MOST_TICKS && fleet.rollouts.length > 0; tick++) {
    fleet.faulty = tick < FAULTY_TICKS
    const busy = fleet.faulty || still < 5
    passTime(fleet, busy ? TICK_MS : IDLE_MS)
    if (fleet.faulty) causeTrouble(fleet)
    if (tick === FAULTY_TICKS) becomeQuiet(fleet)
    if (fleet.upAtMs > fleet.nowMs) continue
    const decided = turn(fleet, plan)
    const underWay = [...fleet.jobs.values()].some(({ state }) => state === 'open')
    still = decided || underWay ? 0 : still + 1
    if (!fleet.faulty && still > 0 && still % MENDED_TICKS === 0) mend(fleet)
    if (fleet.violations.length > 0) break
  }
  const ended: Record<string, number> = {}
  for (const { state } of fleet.over.values()) ended[state] = (ended[state] ?? 0) + 1
  return {
    violations: fleet.violations,
    unsettled: whatIsUnsettled(fleet, plan),
    counts: fleet.counts,
    ended,
  }
}

function turn(fleet: Fleet, plan: Planner): boolean {
  const { random, counts } = fleet
  const snapshot = snapshotOf(fleet)
  const decision = plan(snapshot, fleet.nowMs)
  checkDecision(fleet, snapshot, decision)
  // Killed before it was written: nothing of it has happened.
  if (fleet.faulty && random.chance(0.05)) {
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
  // Killed after it was written: whoever starts next asks for what was granted.
  if (fleet.faulty && random.chance(0.05)) restart(fleet)
  else giveJobs(fleet)
  // An answer comes within moments: while one is waited for, time does not leap over it.
  return awaited.size + decision.grants.length + decision.closings.length + decision.moves.length > 0
}

function hasActed({ rollouts }: Fleet, rollout: string, name: string): boolean {
  const host = rollouts.find(({ id }) => id === rollout)?.hosts.find(one => one.host === name)
  return host?.grants.some(({ step }) => step === 'act') ?? false
}

function restart(fleet: Fleet): void {
  fleet.counts.restarts += 1
  fleet.gateAnswers.clear()
  fleet.upAtMs = fleet.nowMs + fleet.random.below(90_000)
  fleet.blindUntilMs = fleet.upAtMs + fleet.random.below(60_000)
  for (const box of fleet.boxes.values()) box.sessionMs = undefined
}

/** Operators do things at any time. */
function causeTrouble(fleet: Fleet): void {
  const { random, nowMs } = fleet
  const [box] = [random.pick([...fleet.boxes.values()])]
  if (box && random.chance(0.02)) box.lock = box.lock === undefined ? 'made up' : undefined
  if (box && random.chance(0.04))
    box.pin = { revision: 3, why: 'made up', untilMs: nowMs + random.below(3_600_000) }
  if (random.chance(0.01)) {
    fleet.rollouts = fleet.rollouts.map(rollout => {
      if (rollout.state === 'ending' || random.chance(0.5)) return rollout
      if (random.chance(0.05)) return { ...rollout, state: 'ending', endsAs: 'aborted' }
      return { ...rollout, state: rollout.state === 'paused' ? 'running' : 'paused' }
    })
  }
}

/** What failed, and holds others while it is cordoned, is mended by a person and nobody else. */
function mend(fleet: Fleet): void {
  for (const box of fleet.boxes.values()) {
    box.broken = false
    box.cordoned = false
    box.drained = false
  }
}

function becomeQuiet(fleet: Fleet): void {
  for (const box of fleet.boxes.values()) box.lock = undefined
  fleet.rollouts = fleet.rollouts.map(rollout =>
    rollout.state === 'paused' ? { ...rollout, state: 'running' } : rollout,
  )
}

/** One rollout over some hosts, one beside it over the rest, and one that waits for the first. */
function beginRollouts(fleet: Fleet, options: SimulationOptions): RolloutRecord[] {
  const boxes = [...fleet.boxes.values()]
  const isFirst = ({ cluster, host }: Box) =>
    cluster === undefined ? host.charCodeAt(host.length - 1) % 3 > 0 : cluster !== 'k2'
  const [one = 'apply', two = 'reboot', three = 'reboot'] = options.actions
  const make = (
    id: string,
    action: RolloutAction,
    members: readonly Box[],
    after: readonly string[],
  ): RolloutRecord => {
    const able = members.filter(({ server }) => !server)
    const canaries = new Set(able.slice(0, options.canaries).map(({ host }) => host))
    const hosts = members.map(({ host, cluster, server }, index): HostRecord => {
      const before = members[index + 3]
      const edge = before && cluster === undefined && before.cluster === undefined && fleet.random.chance(0.3)
      const canary = canaries.has(host) && canaries.size < members.length
      return {
        ...{ host, machine: `m-${host}`, cluster, server, canary, drainLimitMs: undefined, grants: [] },
        after: edge ? [before.host] : [],
      }
    })
    return {
      ...{
        id,
        action,
        revision: 7,
        state: 'running',
        endsAs: undefined,
        startedMs: fleet.nowMs,
        after,
        hosts,
      },
      overrides: new Set(),
      reverts: undefined,
      settings: {
        ...{ maxUnavailable: options.maxUnavailable, maxUnavailableAlone: options.maxUnavailable },
        ...{
          soakMs: 60_000,
          canarySoakMs: 120_000,
          onFailure: options.onFailure,
          maxFailures: options.maxFailures,
        },
        ...{
          spread: options.spread ? 'rack' : undefined,
          drainLimitMs: 300_000,
          prefetch: fleet.random.chance(0.5),
        },
        ...{ direct: false, awayMs: 600_000 },
      },
    }
  }
  const first = boxes.filter(isFirst)
  const rest = boxes.filter(box => !isFirst(box))
  return [
    make('r1', one, first, []),
    ...(rest.length > 0 ? [make('r2', two, rest, [])] : []),
    make('r3', three, first.slice(0, 12), ['r1']),
  ]
}

function whatIsUnsettled(fleet: Fleet, plan: Planner): string[] {
  const problems: string[] = []
  if (fleet.violations.length > 0) return problems
  if (fleet.rollouts.length > 0) {
    const { waits } = plan(snapshotOf(fleet), fleet.nowMs)
    for (const { id, state } of fleet.rollouts) {
      const [held] = waits.get(id) ?? []
      problems.push(
        `${id} is ${state}; ${held?.[0]}: ${held?.[1].map(({ gate, reason }) => `${gate}: ${reason}`).join('; ')}`,
      )
    }
    return problems
  }
  for (const { record, state, reason } of fleet.over.values()) {
    for (const { host, grants } of record.hosts) {
      const failed = grants.some(({ end }) => end?.outcome === 'failed')
      const done = grants.some(({ step, end }) => step === 'act' && end?.outcome === 'done') && !failed
      if (!failed && fleet.boxes.get(host)?.cordoned && !isFailedElsewhere(fleet, host))
        problems.push(`${host} is still cordoned`)
      if (state === 'succeeded' && !done && !reason.includes(host) && !reason.includes(' more')) {
        problems.push(`${record.id} has succeeded, and nobody said that ${host} was left behind`)
      }
      if (grants.some(({ end }) => !end))
        problems.push(`${record.id} is over, and something is under way on ${host}`)
    }
  }
  return problems
}

function isFailedElsewhere({ over }: Fleet, name: string): boolean {
  return [...over.values()].some(({ record }) =>
    record.hosts.some(
      ({ host, grants }) => host === name && grants.some(({ end }) => end?.outcome === 'failed'),
    ),
  )
}
