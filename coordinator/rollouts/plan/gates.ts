import { windowText } from '../../../shared/rollout/maintenance-window.ts'
import type { Availability } from './availability.ts'
import { type GateName, OVERRIDABLE, type Wait } from './decision.ts'
import { isDisruptive, type Progress } from './host-steps.ts'
import { memberOf, whyUnwell } from './judge-grant.ts'
import type { HostRecord, RolloutRecord, StepKind } from './rollout-record.ts'
import type { HostView, RolloutSnapshot } from './rollout-snapshot.ts'
import { isOpen } from './window-open.ts'

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
  /** By name, of this rollout, as decided so far. */
  readonly progress: ReadonlyMap<string, Progress>
  readonly nowMs: number
}

/** A gate that an operator, and nothing else, opens: the host is left behind when all else is done. */
export const LEAVES_BEHIND: readonly GateName[] = [
  'away',
  'unbound',
  'held',
  'lock',
  'pin',
  'quarantine',
  'target',
]

/** Everything that holds a step of a host. Empty: it may be granted. */
export function waitsOf(input: GateInput): readonly Wait[] {
  const { rollout, host } = input
  const held = [...closed(input)]
  return held.filter(
    ({ gate }) => !(OVERRIDABLE.includes(gate) && rollout.overrides.has(`${host.host} ${gate}`)),
  )
}

function* closed(input: GateInput): Iterable<Wait> {
  const { step, fresh } = input
  const closing = step === 'prove' || step === 'soak' || step === 'uncordon'
  yield* stopsAll(input, closing)
  if (step !== 'prove' && step !== 'soak') yield* reachable(input)
  if (closing) return
  yield* ownState(input)
  yield* silence(input)
  if (!isDisruptive(step)) return
  if (fresh) {
    yield* turn(input)
    yield* canaries(input)
    yield* window(input)
    yield* health(input)
    const budget = input.availability.overBudget(input.rollout, input.host)
    if (budget) yield budget
    const spread = input.availability.notSpread(input.rollout, input.host)
    if (spread) yield spread
  }
  yield* datastore(input)
}

function* stopsAll({ snapshot, rollout }: GateInput, closing: boolean): Iterable<Wait> {
  if (snapshot.halted !== undefined) {
    yield {
      gate: 'halted',
      reason: snapshot.halted,
      opens: 'an operator looks and says `muster rollout accept-restore`',
    }
  }
  if (closing) return
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
    yield { gate: 'rollout', reason: `rollout ${id} is ${state ?? 'not known'}`, opens: 'it has succeeded' }
  }
}

/** Whether anything can be asked of the machine at all. */
function* reachable({ rollout, host, view, step }: GateInput): Iterable<Wait> {
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
  // The order of a machine that somebody waits for is written at once, and lies ready for it; what a server does for its node needs
  // no word of its own.
  const mayWait =
    (rollout.settings.direct && host.cluster === undefined) ||
    step === 'uncordon' ||
    ['drain', 'uncordon', 'leave'].includes(rollout.action)
  if (!view.connected && !mayWait) {
    yield { gate: 'away', reason: 'it is not connected', opens: 'its agent connects' }
  }
  if (view.held !== undefined) {
    yield { gate: 'held', reason: view.held, opens: 'an operator looks at it (`muster show`)' }
  }
}

/** What is on record of the host itself. */
function* ownState({ rollout, host, view, step }: GateInput): Iterable<Wait> {
  if (!view) return
  const refused = view.refused.get(rollout.id)
  if (refused !== undefined) yield { gate: 'target', reason: refused, opens: 'a revision that has one' }
  if (view.lock !== undefined) {
    yield { gate: 'lock', reason: `locked: ${view.lock}`, opens: `\`muster unlock ${host.host}\`` }
  }
  const goes = rollout.action === 'apply' || rollout.action === 'upgrade'
  if (goes && view.pin !== undefined && view.pin.revision !== rollout.revision) {
    const { revision, why } = view.pin
    const opens = `the pin ends, or \`muster unpin ${host.host}\``
    yield { gate: 'pin', reason: `pinned to revision ${revision}: ${why}`, opens }
  }
  // To whoever named the host and waits, the node itself says what it does not try again.
  if (goes && !rollout.settings.direct && view.quarantined.has(rollout.revision)) {
    const reason = `revision ${rollout.revision} failed there and is not tried again`
    yield { gate: 'quarantine', reason, opens: `\`muster retry ${host.host}\`` }
  }
  if (view.busyWith !== undefined && step !== 'uncordon') {
    yield { gate: 'busy', reason: `operation ${view.busyWith} is under way`, opens: 'it is over' }
  }
}

function* silence({ snapshot: { silence: seen } }: GateInput): Iterable<Wait> {
  if (seen.silent < 2 || seen.silent * 100 <= seen.percent * seen.known) return
  const reason = `${seen.silent} of ${seen.known} machines fell silent at once, more than ${seen.percent} %`
  yield { gate: 'silence', reason, opens: 'they are back, or have been away for ten minutes' }
}

/** Who must be done before: edges between hosts and clusters, servers before workers. */
function* turn({ snapshot, rollout, host, progress }: GateInput): Iterable<Wait> {
  const isDone = (name: string) => progress.get(name)?.kind === 'done'
  const before = host.after.filter(name => progress.has(name) && !isDone(name))
  if (before.length > 0) {
    yield { gate: 'order', reason: `goes after ${before.slice(0, 3).join(', ')}`, opens: 'they are done' }
  }
  const clusters = host.cluster === undefined ? [] : (snapshot.follows.get(host.cluster) ?? [])
  const open = rollout.hosts.find(
    other => other.cluster !== undefined && clusters.includes(other.cluster) && !isDone(other.host),
  )
  if (open) {
    const reason = `cluster ${host.cluster} goes after ${open.cluster}, where ${open.host} is not done`
    yield { gate: 'cluster', reason, opens: `cluster ${open.cluster} is done` }
  }
  if (host.cluster === undefined) return
  const servers = rollout.hosts.filter(other => other.cluster === host.cluster && other.server)
  const leader = snapshot.clusters.get(host.cluster)?.leader
  const first = servers.find(
    other =>
      other.host !== host.host &&
      !isDone(other.host) &&
      (!host.server || (host.host === leader && progress.get(other.host)?.kind !== 'failed')),
  )
  if (first) {
    const reason = host.server
      ? `it leads the datastore and goes after server ${first.host}`
      : `goes after server ${first.host}`
    yield { gate: 'servers', reason, opens: `${first.host} is done` }
  }
}

/** Everybody waits for the canaries, but for those that the canaries themselves must wait for. */
function* canaries({ snapshot, rollout, host, progress }: GateInput): Iterable<Wait> {
  if (host.canary) return
  for (const canary of rollout.hosts) {
    if (!canary.canary || progress.get(canary.host)?.kind === 'done') continue
    if (precedes(snapshot, rollout, host, canary)) continue
    yield {
      gate: 'canary',
      reason: `canary ${canary.host} has not proved it`,
      opens: `${canary.host} is done and has stayed well`,
    }
    return
  }
}

/** Whether one host must be done before another. */
function precedes(
  { follows }: RolloutSnapshot,
  { hosts }: RolloutRecord,
  first: HostRecord,
  then: HostRecord,
): boolean {
  if (first.cluster !== undefined && first.cluster === then.cluster && first.server && !then.server)
    return true
  const clusters = reach(then.cluster === undefined ? [] : [then.cluster], name => follows.get(name) ?? [])
  if (first.cluster !== undefined && first.cluster !== then.cluster && clusters.has(first.cluster))
    return true
  const edges = new Map(hosts.map(({ host, after }) => [host, after]))
  return first.host !== then.host && reach([then.host], name => edges.get(name) ?? []).has(first.host)
}

function reach(from: readonly string[], next: (name: string) => readonly string[]): ReadonlySet<string> {
  const seen = new Set(from)
  // A set that grows while it is walked is walked to its end.
  for (const name of seen) for (const other of next(name)) seen.add(other)
  return seen
}

function* window({ snapshot, rollout, view, nowMs }: GateInput): Iterable<Wait> {
  if (rollout.action === 'uncordon') return
  const windows = view && view.windows.length > 0 ? view.windows : snapshot.windows
  if (windows.length === 0 || windows.some(one => isOpen(one, nowMs))) return
  const texts = windows.map(windowText).join('; ')
  yield { gate: 'window', reason: 'no maintenance window is open', opens: `a window begins: ${texts}` }
}

/** Only what is well is touched: its own state, and that of its cluster's datastore. */
function* health({ snapshot, rollout, host, view }: GateInput): Iterable<Wait> {
  if (rollout.action === 'uncordon' || (rollout.action === 'leave' && !view?.connected)) return
  const unwell = view?.connected ? whyUnwell(snapshot, view, host) : undefined
  if (unwell === undefined || view?.held !== undefined) return
  yield { gate: 'health', reason: unwell, opens: 'its node is Ready' }
}

/** Quorum as it is and as it would be, and versions. Looked at before each step, also of a host that was begun with. */
function* datastore({ snapshot, rollout, host, step }: GateInput): Iterable<Wait> {
  const member = memberOf(snapshot, host)
  if (!member?.joined || step === 'snapshot') return
  const moves = rollout.action !== 'drain' && rollout.action !== 'uncordon'
  if (host.server && moves) {
    const change = snapshot.clusters.get(host.cluster ?? '')?.serverChange
    const stop = change ?? member.stop
    if (stop !== undefined)
      yield { gate: 'quorum', reason: stop, opens: 'the datastore agrees without this server' }
  }
  const versions = rollout.action === 'apply' || rollout.action === 'upgrade'
  if (versions && member.skew !== undefined) {
    yield { gate: 'skew', reason: member.skew, opens: 'the versions of the others fit' }
  }
}
