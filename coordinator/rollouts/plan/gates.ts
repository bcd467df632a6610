import { windowText } from '../../../shared/rollout/maintenance-window.ts'
import { allowed, type Servers } from './allow-gate.ts'
import type { Availability } from './availability.ts'
import { type ClusterVersions, datastore, health, known } from './cluster-gates.ts'
import { type GateName, OVERRIDABLE, type Wait } from './decision.ts'
import { whyPassed } from './gate-table.ts'
import { bringsRevision, isDisruptive, roundsOf } from './host-steps.ts'
import { jobGates } from './job-gates.ts'
import { canaries, turn } from './order-gates.ts'
import { whyOutgrown } from './outgrown.ts'
import { hasGates, type LastSteps, ownGates } from './own-gates.ts'
import type { Placements } from './placements.ts'
import type { Predecessors } from './predecessors.ts'
import type { HostRecord, RolloutRecord, StepKind } from './rollout-record.ts'
import { type HostView, MOVED_NOBODY, type RolloutSnapshot } from './rollout-snapshot.ts'
import type { Standing } from './standing.ts'
import type { WallClocks } from './window-open.ts'

/** What gates look at for one host of one rollout. */
export interface GateInput {
  readonly snapshot: RolloutSnapshot
  readonly rollout: RolloutRecord
  readonly host: HostRecord
  readonly view: HostView | undefined
  readonly step: StepKind
  /** Nothing was begun with it yet. */
  readonly fresh: boolean
  readonly availability: Availability
  readonly standing: Standing
  readonly predecessors: Predecessors
  readonly clocks: WallClocks
  readonly versions: ClusterVersions
  readonly lastSteps: LastSteps
  readonly servers: Servers
  readonly placements: Placements
  readonly nowMs: number
}

/** Gates that an operator, or somebody beside the machine, opens: the host is left behind when all else is done. */
export const LEAVES_BEHIND: readonly GateName[] = [
  ...(['away', 'unbound', 'held', 'lock', 'pin', 'quarantine', 'target', 'given-up', 'allow'] as const),
]

/** A host that was handed back so often is left alone. */
export const MOST_HAND_BACKS = 10

/** Everything that holds a step of a host. Empty: it may be granted. */
export function waitsOf(input: GateInput): Wait[] {
  const { rollout, host } = input
  return [...closed(input)].flatMap(wait => {
    const { gate, reason } = wait
    if (whyPassed(rollout, gate) !== undefined) return []
    if (!isOpen(rollout, host, gate)) return [wait]
    const why = gate === 'window' ? whyOutgrown(input.snapshot, rollout, host) : undefined
    return why === undefined ? [] : [{ ...wait, reason: `${reason}; it was opened for less: ${why}` }]
  })
}

/** Whether the gate does not hold this action, or an operator has opened it for the host. */
function isOpen(rollout: RolloutRecord, { host }: HostRecord, gate: GateName): boolean {
  if (whyPassed(rollout, gate) !== undefined) return true
  return OVERRIDABLE.includes(gate) && rollout.overrides.has(`${host} ${gate}`)
}

function* closed(input: GateInput): Iterable<Wait> {
  const { step, fresh, rollout, host, availability } = input
  const closing = step === 'prove' || step === 'soak' || step === 'uncordon'
  yield* halted(input)
  if (closing) return
  yield* stopsAll(input)
  yield* reachable(input)
  yield* ownState(input)
  yield* allowed(input)
  const other = availability.movedByOther(rollout, host)
  if (other !== undefined) {
    yield { gate: 'busy', reason: `rollout ${other} does something to it`, opens: 'that is over' }
  }
  yield* silence(input)
  if (!isDisruptive(step)) return
  yield* window(input)
  yield* known(input)
  if (fresh) {
    yield* turn(input)
    yield* canaries(input)
  }
  yield* health(input)
  if (fresh) {
    const budget = availability.overBudget(rollout, host)
    if (budget && availability.pastWhoIsOff(rollout, host) === undefined) yield budget
    const spread = availability.notSpread(rollout, host)
    if (spread) yield spread
  }
  yield* datastore(input)
  yield* ownGates(input)
  yield* jobGates(input)
}

function* halted({ snapshot }: GateInput): Iterable<Wait> {
  if (snapshot.halted === undefined) return
  yield {
    gate: 'halted',
    reason: snapshot.halted,
    opens: 'an operator looks and says `muster rollout accept`',
  }
}

function* stopsAll({ snapshot, rollout }: GateInput): Iterable<Wait> {
  if (rollout.state === 'paused') {
    yield {
      gate: 'paused',
      reason: 'the rollout is paused',
      opens: `\`muster rollout resume ${rollout.id}\``,
    }
  }
  for (const id of rollout.after) {
    const state = snapshot.others.get(id)
    if (state === 'succeeded') continue
    yield { gate: 'rollout', reason: `rollout ${id} ${howItStands(state)}`, opens: 'it has succeeded' }
  }
  const reverted = rollout.reverts === undefined ? undefined : snapshot.others.get(rollout.reverts)
  if (reverted === 'running' || reverted === 'paused' || reverted === 'ending') {
    yield { gate: 'rollout', reason: `rollout ${rollout.reverts} is ${reverted}`, opens: 'it is over' }
  }
}

/** Of a rollout that another one waits for. */
export const howItStands = (state: string | undefined): string =>
  state === MOVED_NOBODY ? 'left all behind' : `is ${state ?? 'not known'}`

/** Whether anything can be asked of the machine at all. */
function* reachable(input: GateInput): Iterable<Wait> {
  const { rollout, host, view, step } = input
  if (view?.machine === undefined) {
    yield {
      gate: 'unbound',
      reason: 'no machine is this host',
      opens: 'a machine is enrolled and bound to it',
    }
    return
  }
  if (
    host.machine !== undefined &&
    view.machine !== host.machine &&
    step !== 'prefetch' &&
    host.grants.length > 0
  ) {
    yield {
      gate: 'unbound',
      reason: 'another machine is this host now',
      opens: 'the machine that was begun with is back',
    }
    return
  }
  // The order of a machine that somebody waits for is written at once, and lies ready for it: but where it must be asked something first.
  const mayWait =
    rollout.settings.direct &&
    host.cluster === undefined &&
    !(hasGates(input) && !isOpen(rollout, host, 'checks'))
  if (!view.connected && !mayWait) {
    yield { gate: 'away', reason: 'it is not connected', opens: 'its agent connects' }
  }
  if (view.held !== undefined) {
    yield { gate: 'held', reason: view.held, opens: 'an operator looks at it (`muster show`)' }
  }
}

/** What is on record of the host itself. */
function* ownState({ rollout, host, view, nowMs }: GateInput): Iterable<Wait> {
  if (!view) return
  const refused = view.refused.get(rollout.id)
  if (refused !== undefined) yield { gate: 'target', reason: refused, opens: 'a revision that has one' }
  if (view.lock !== undefined) {
    yield { gate: 'lock', reason: `locked: ${view.lock}`, opens: `\`muster unlock ${host.host}\`` }
  }
  const goes = bringsRevision(rollout.action)
  const { pin } = view
  if (goes && pin !== undefined && pin.revision !== rollout.revision && pin.untilMs > nowMs) {
    const until = new Date(pin.untilMs).toISOString()
    const opens = `the pin ends at ${until}, or \`muster unpin ${host.host}\``
    yield { gate: 'pin', reason: `pinned to revision ${pin.revision}: ${pin.why}`, opens }
  }
  if (goes && view.quarantined.has(rollout.revision)) {
    const reason = `revision ${rollout.revision} failed there and is not tried again`
    yield { gate: 'quarantine', reason, opens: `\`muster retry ${host.host}\`` }
  }
  if (view.busyWith !== undefined) {
    yield { gate: 'busy', reason: `operation ${view.busyWith} is under way`, opens: 'it is over' }
  }
  if (roundsOf(host).count >= MOST_HAND_BACKS) {
    const reason = `it was drained ${MOST_HAND_BACKS} times and handed back each time before its turn to act had come`
    yield { gate: 'given-up', reason, opens: 'an operator looks at what held it' }
  }
}

/** Much of the fleet is gone at once: nothing new is begun. Confirmations, rollbacks and what lifts a cordon never wait here. */
function* silence({ snapshot: { silence: seen } }: GateInput): Iterable<Wait> {
  const { known: all, silent, percent } = seen
  const isReadable = [all, silent, percent].every(value => Number.isFinite(value) && value >= 0)
  if (isReadable && (silent < 2 || silent * 100 <= percent * all)) return
  const reason = isReadable
    ? `${silent} of ${all} machines fell silent at once, more than ${percent} %`
    : 'how many machines fell silent cannot be told'
  yield { gate: 'silence', reason, opens: 'they are back, or have been away for ten minutes' }
}

function* window({ snapshot, view, clocks }: GateInput): Iterable<Wait> {
  const windows = view && view.windows.length > 0 ? view.windows : snapshot.windows
  if (windows.length === 0 || windows.some(one => clocks.isOpen(one))) return
  const unknown = windows.find(one => clocks.isOpen(one) === undefined)
  const texts = windows.map(windowText).join('; ')
  const reason = unknown
    ? `the clock of ${unknown.timeZone} cannot be read, and no other maintenance window is open`
    : 'no maintenance window is open'
  yield { gate: 'window', reason, opens: `a window begins: ${texts}` }
}

/** Gates that time alone closes and opens again: what was begun is handed back at once, for it will be long. */
export function isLong({ gate }: Wait): boolean {
  return gate === 'window'
}

/** Whether a wait is such that a host that was drained should not be kept so. */
export function isHolding({ gate }: Wait): boolean {
  return gate !== 'retry' && gate !== 'halted'
}
