import type { Decision, NewGrant } from '../decision.ts'
import type { Grant, HostRecord, RolloutRecord } from '../rollout-record.ts'
import type { RolloutSnapshot } from '../rollout-snapshot.ts'
import { isBusy, isHalted, isHeld, isTargetless } from './mishaps.ts'
import type { Box, Fleet } from './simulated-fleet.ts'

/*
 * What must never be, said without any word of the planner's: it shares no code with it but the types. Each is checked on what was
 * decided, against the fleet and against what could be known of it.
 */

/** Steps of what servers or members of a cluster do in one act: it is over when that is. */
const ONE_ACT = ['rotate', 'leave', 'restore']

/** Who was drained and handed back so often is left to a person. */
const MOST_HAND_BACKS = 10

/** So many hosts fetch and build at once, over all rollouts. */
const MOST_FETCHING = 100

/** How long what did not hold waits before each time that it is tried again; it is not tried more often. */
const RETRY_AFTER_MS = [60_000, 300_000]

/** So long a cluster is asked to begin what was granted. */
const ASKED_MS = 600_000
const LOOKED_MS = 120_000

/** So long a host that ceased to be well is waited for before it soaks anew. */
const UNWELL_MS = 900_000

/** Gates that an operator may open. */
const OPENABLE = [
  ...['rollout', 'cluster', 'order', 'servers', 'canary', 'budget', 'spread', 'silence'],
  ...['lock', 'pin', 'window', 'health', 'checks', 'jobs', 'soak', 'given-up'],
]

/** By the table of the page about rollouts: what does not hold an action. */
const PASSED: Readonly<Record<string, readonly string[]>> = {
  reboot: ['pin', 'quarantine', 'skew'],
  restart: ['pin', 'quarantine', 'skew'],
  rotate: ['pin', 'quarantine', 'skew'],
  rollback: ['pin', 'quarantine', 'skew', 'silence', 'checks', 'jobs'],
  leave: ['pin', 'quarantine', 'skew', 'away', 'health', 'checks', 'unknown'],
  restore: [
    ...['pin', 'quarantine', 'skew', 'unknown', 'health', 'checks', 'jobs', 'quorum'],
    ...['budget', 'spread', 'silence', 'window'],
  ],
}

/** What is wrong with a grant, and the gate that should have held it; without one nothing opens it. */
type Problem = readonly [what: string, gate?: string]

/** By its grants alone: something was begun with the host that is not over. Undefined: nothing is. */
function heldBy(
  action: string,
  grants: readonly Pick<Grant, 'step' | 'end'>[],
): 'cordon' | 'act' | undefined {
  if (ONE_ACT.includes(action))
    return grants.some(({ step, end }) => step === 'act' && !end) ? 'act' : undefined
  let cordon = false
  let act = false
  for (const { step, end } of grants) {
    if (end?.outcome === 'skipped') {
      // Where no cordon of ours is on it there is none to lift: one that is there is seen on its node.
      if (step === 'uncordon') cordon = false
      continue
    }
    if (step === 'drain') cordon = true
    if (step === 'act') act = end?.outcome !== 'again' && end?.outcome !== 'failed'
    if ((step === 'soak' || step === 'prove') && end?.outcome === 'failed') act = false
    if (step === 'soak' && end?.outcome === 'done') act = false
    if (step === 'uncordon' && end) {
      cordon = end.outcome === 'failed'
      act = false
    }
  }
  return cordon ? 'cordon' : act ? 'act' : undefined
}

function isDone(action: string, { grants }: HostRecord): boolean {
  const acted = grants.some(
    ({ step, end }) => step === 'act' && (end?.outcome === 'done' || end?.outcome === 'skipped'),
  )
  const last = grants.at(-1)
  return (
    acted &&
    last?.end !== undefined &&
    last.end.outcome !== 'failed' &&
    last.end.outcome !== 'again' &&
    (last.step === 'uncordon' || last.step === 'soak' || ONE_ACT.includes(action)) &&
    !grants.some(({ end }) => end?.outcome === 'failed')
  )
}

function isFailed(host: HostRecord | undefined): boolean {
  return host?.grants.some(({ end }) => end?.outcome === 'failed') ?? false
}

/** The rollouts with what a decision closes, and then with each of its grants in turn. */
class Ledger {
  readonly #hosts = new Map<string, HostRecord>()
  /** Host to the rollout that holds it. */
  readonly #held = new Map<string, string>()
  readonly #actions = new Map<string, string>()

  constructor(
    rollouts: readonly RolloutRecord[],
    over: Iterable<RolloutRecord>,
    { closings, placements }: Decision,
    nowMs: number,
  ) {
    const ends = new Map(closings.map(({ grant, end }) => [grant, end]))
    for (const { id, action, hosts } of over)
      for (const host of hosts) if (heldBy(action, host.grants)) this.#held.set(host.host, id)
    for (const { id, action, hosts } of rollouts) {
      this.#actions.set(id, action)
      for (const host of hosts) {
        const grants = host.grants.map(grant => {
          const end = grant.end ? undefined : ends.get(grant.id)
          return end ? { ...grant, end: { ...end, atMs: nowMs } } : grant
        })
        const to = placements.find(one => one.rollout === id && one.host === host.host)
        this.#put(id, { ...host, cluster: to?.cluster ?? host.cluster, grants })
      }
    }
  }

  host(rollout: string, name: string): HostRecord | undefined {
    return this.#hosts.get(`${rollout} ${name}`)
  }

  holder(name: string): string | undefined {
    return this.#held.get(name)
  }

  /** The rollout that holds it and is not over. */
  opener(name: string): string | undefined {
    const holder = this.#held.get(name)
    return holder !== undefined && this.#actions.has(holder) ? holder : undefined
  }

  add({ rollout, host: name, step, attempt, skipped }: NewGrant, nowMs: number): void {
    const host = this.host(rollout, name)
    if (!host) return
    const end = skipped === undefined ? undefined : ({ outcome: 'skipped', reason: '', atMs: nowMs } as const)
    const grant: Grant = { id: 0, step, attempt, grantedMs: nowMs, operation: '', end }
    this.#put(rollout, { ...host, grants: [...host.grants, grant] })
  }

  #put(id: string, host: HostRecord): void {
    this.#hosts.set(`${id} ${host.host}`, host)
    if (heldBy(this.#actions.get(id) ?? '', host.grants)) this.#held.set(host.host, id)
    else if (this.#held.get(host.host) === id) this.#held.delete(host.host)
  }
}

/** Looks at a decision before it is written. */
export function checkDecision(fleet: Fleet, snapshot: RolloutSnapshot, decision: Decision): void {
  const { nowMs, violations } = fleet
  // What somebody has mended since is held by nobody.
  const over = [...fleet.over.values()].map(({ record }) => ({
    ...record,
    hosts: record.hosts.filter(({ host }) => fleet.boxes.get(host)?.cordoned),
  }))
  const ledger = new Ledger(fleet.rollouts, over, decision, nowMs)
  checkClosings(fleet, snapshot, decision)
  checkAsking(fleet, snapshot, decision)
  checkFetching(fleet, decision)
  checkEnds(fleet, decision)
  checkGivenUp(fleet, snapshot, ledger, decision)
  const failedNow = new Map(
    fleet.rollouts.map(({ id, hosts }) => [
      id,
      hosts.filter(({ host }) => isFailed(ledger.host(id, host))).map(({ host }) => host),
    ]),
  )
  for (const grant of decision.grants) {
    const say = (what: string) =>
      violations.push(`${what}: ${grant.rollout} ${grant.host} ${grant.step} ${grant.attempt}`)
    const rollout = fleet.rollouts.find(({ id }) => id === grant.rollout)
    const box = fleet.boxes.get(grant.host)
    const host = ledger.host(grant.rollout, grant.host)
    if (!rollout || !box || !host) {
      say('of nobody')
      continue
    }
    const failed = failedNow.get(rollout.id) ?? []
    const past = decision.opened.some(one => one.rollout === rollout.id && one.host === grant.host)
    const found = problemsOf(fleet, snapshot, ledger, rollout, host, box, grant, failed, past)
    for (const [what, gate = ''] of found) {
      if (PASSED[rollout.action]?.includes(gate)) continue
      if (OPENABLE.includes(gate) && rollout.overrides.has(`${grant.host} ${gate}`))
        fleet.counts.overridden += 1
      else say(what)
    }
    ledger.add(grant, nowMs)
  }
}

function* problemsOf(
  fleet: Fleet,
  snapshot: RolloutSnapshot,
  ledger: Ledger,
  rollout: RolloutRecord,
  host: HostRecord,
  box: Box,
  { step, attempt, skipped }: NewGrant,
  failed: readonly string[],
  past: boolean,
): Iterable<Problem> {
  const { grants } = host
  const { action } = rollout
  if (grants.some(grant => grant.step === step && grant.attempt === attempt)) yield ['granted twice']
  if (grants.some(({ end }) => !end)) yield ['two steps at once']
  if (step === 'act' && grants.some(grant => grant.step === 'act' && grant.end?.outcome !== 'again'))
    yield ['acts twice']
  if (isFailed(host) && step !== 'uncordon') yield ['goes on after it failed']
  if (step === 'uncordon' && skipped === undefined && heldBy(action, grants) !== 'cordon')
    yield ['lifts what we did not cordon']
  // What failed in a rollout that is over may be taken back, or mended, by another.
  const other = ledger.opener(host.host)
  if (skipped === undefined && other !== undefined && other !== rollout.id) yield ['another rollout has it']
  if (rollout.reverts !== undefined && step === 'act' && skipped !== undefined) yield ['takes nothing back']
  if (action === 'reboot' && (step === 'act' || (step === 'drain' && skipped === undefined))) {
    const booted = host.boots !== undefined && box.boots > host.boots
    if (booted && skipped === undefined) yield ['boots again']
    if (!booted && skipped !== undefined) yield ['does not boot']
  }
  if (isHalted(fleet) && skipped === undefined) yield ['while halted']
  if (skipped === undefined) yield* retryProblems(fleet, snapshot, host, step)
  const begins = step === 'prefetch' || step === 'snapshot' || step === 'drain' || step === 'act'
  if (!begins || skipped !== undefined) return
  if (rollout.state !== 'running') yield ['not running']
  for (const id of rollout.after)
    if (fleet.over.get(id)?.state !== 'succeeded') yield ['before its turn', 'rollout']
  if (rollout.reverts !== undefined && !fleet.over.has(rollout.reverts))
    yield ['before what it takes back is over', 'rollout']
  const { onFailure, maxFailures = Number.POSITIVE_INFINITY } = rollout.settings
  if (failed.length >= (onFailure === 'continue' ? maxFailures : 1)) yield ['after it was stopped']
  if (failed.some(name => rollout.hosts.some(one => one.host === name && one.canary)))
    yield ['after a canary failed']
  if (!snapshot.hosts.get(host.host)?.machine) yield ['no machine is it', 'unbound']
  if (isHeld(fleet, box)) yield ['held', 'held']
  if (isBusy(fleet, box)) yield ['busy', 'busy']
  if (isTargetless(fleet, box)) yield ['without a target', 'target']
  if (box.lock !== undefined) yield ['locked', 'lock']
  yield* allowProblems(fleet, rollout, box, step)
  if (box.pin && box.pin.untilMs > fleet.nowMs && box.pin.revision !== rollout.revision)
    yield ['pinned', 'pin']
  if (box.quarantined.has(rollout.revision)) yield ['quarantined', 'quarantine']
  if (snapshot.silence.silent >= 2 && snapshot.silence.silent / snapshot.silence.known > 0.3)
    yield ['while many are silent', 'silence']
  if (step === 'prefetch') return
  const minute = Math.floor(fleet.nowMs / 60_000) % 1440
  if (!(box.windows.length > 0 ? isInside(box.windows, minute) : minute % 60 < 20))
    yield ['outside of its window', 'window']
  // The order of a machine that was named by hand lies ready for it, but where its gates are asked first.
  const liesReady = rollout.settings.direct && host.cluster === undefined
  const isAsked =
    fleet.askGates && !PASSED[action]?.includes('checks') && !rollout.overrides.has(`${host.host} checks`)
  if (!snapshot.hosts.get(host.host)?.connected && !(liesReady && !isAsked)) yield ['away', 'away']
  yield* clusterProblems(fleet, snapshot, ledger, rollout, host, box, step)
  yield* gateProblems(fleet, ledger, rollout, box)
  yield* jobProblems(fleet, snapshot, ledger, rollout, box)
  const isBegun = heldBy(action, grants) !== undefined
  yield* healthProblems(snapshot, rollout, box, isBegun)
  if (isBegun || step === 'snapshot') return
  yield* orderProblems(snapshot, ledger, rollout, host)
  yield* budgetProblems(fleet, snapshot, ledger, rollout, box, past)
}

/** What did not hold waits before it is tried again, and who ceased to be well before it soaks anew. */
function* retryProblems(
  fleet: Fleet,
  { hosts, clusters }: RolloutSnapshot,
  { host, cluster, grants }: HostRecord,
  step: string,
): Iterable<Problem> {
  const before = grants.findLast(grant => grant.step === step)
  if (before?.end?.outcome !== 'again') return
  const sinceMs = fleet.nowMs - before.end.atMs
  if (step === 'soak') {
    const member = clusters.get(cluster ?? '')?.members.get(host)
    const isWell = hosts.get(host)?.connected && (!member?.joined || member.ready === true)
    if (!isWell && sinceMs < UNWELL_MS) yield ['soaks anew while not well']
    return
  }
  fleet.counts.triedAgain += 1
  // All its steps begin anew once it was handed back.
  if (grants.findLast(grant => grant.step === 'uncordon' || grant === before) !== before) return
  if (sinceMs < (RETRY_AFTER_MS[before.attempt - 1] ?? 0)) yield ['tried again too early']
}

/** A node is well each time that it is touched, and so are the other servers when one of them that was drained is. */
function* healthProblems(
  { clusters }: RolloutSnapshot,
  { overrides }: RolloutRecord,
  box: Box,
  isBegun: boolean,
): Iterable<Problem> {
  const members = clusters.get(box.cluster ?? '')?.members
  const member = members?.get(box.host)
  if (!members || !member?.joined) return
  if (member.ready !== true) yield [isBegun ? 'goes on while not well' : 'begun while not well', 'health']
  if (!isBegun || !box.server || overrides.has(`${box.host} budget`)) return
  const isIll = [...members].some(
    ([name, { server, joined, ready }]) => server && name !== box.host && joined && ready !== true,
  )
  if (isIll) yield ['beside a server that is not well', 'health']
}

/** Who takes no orders of a kind is not touched for it, and its node is not drained. */
function* allowProblems(
  { clusters }: Fleet,
  { action }: RolloutRecord,
  box: Box,
  step: string,
): Iterable<Problem> {
  if (!box.allowed.includes(action)) yield ['its owner forbids it']
  if (step === 'snapshot' && !box.allowed.includes('snapshot')) yield ['its owner forbids the snapshot']
  const servers = clusters.get(box.cluster ?? '')?.filter(({ server, joined }) => server && joined) ?? []
  if (step === 'drain' && servers.length > 0 && !servers.some(({ allowed }) => allowed.includes('drain')))
    yield ['the owners of its servers forbid the drain']
}

/** Its own gates said that they are healthy, after everything that was done in its cluster was over. */
function* gateProblems(fleet: Fleet, ledger: Ledger, rollout: RolloutRecord, box: Box): Iterable<Problem> {
  if (!fleet.askGates) return
  const answer = fleet.gateAnswers.get(`m-${box.host}`)
  if (!answer || fleet.nowMs - answer.askedMs > 60_000) {
    yield ['its gates were not asked', 'checks']
    return
  }
  if (answer.problem !== undefined) yield ['its gates are ill', 'checks']
  for (const name of endedSince(fleet, ledger, rollout, box, answer.askedMs))
    yield [`its gates were asked before ${name} was done`, 'checks']
}

/** The Jobs of its cluster have completed, asked after everything that was done in it was over. */
function* jobProblems(
  fleet: Fleet,
  { clusters }: RolloutSnapshot,
  ledger: Ledger,
  rollout: RolloutRecord,
  box: Box,
): Iterable<Problem> {
  const members = clusters.get(box.cluster ?? '')?.members
  if (!fleet.askJobs || box.cluster === undefined || members?.get(box.host)?.joined === false) return
  const answer = fleet.jobAnswers.get(box.cluster)
  if (!answer || fleet.nowMs - answer.askedMs > 300_000) {
    yield ['the Jobs of its cluster were not asked', 'jobs']
    return
  }
  if (answer.problem !== undefined) yield ['the Jobs of its cluster failed', 'jobs']
  for (const name of endedSince(fleet, ledger, rollout, box, answer.askedMs))
    yield [`the Jobs of its cluster were asked before ${name} was done`, 'jobs']
}

/** Hosts of its cluster with which something was over only after that time. */
function* endedSince(
  fleet: Fleet,
  ledger: Ledger,
  rollout: RolloutRecord,
  box: Box,
  askedMs: number,
): Iterable<string> {
  const own = ledger.host(rollout.id, box.host)?.cluster
  for (const { id, hosts } of fleet.rollouts) {
    for (const { host: name } of hosts) {
      const { cluster, grants = [] } = ledger.host(id, name) ?? {}
      if (cluster !== own) continue
      const isOlder = grants.some(
        ({ step, end }) => end && end.outcome !== 'skipped' && step !== 'prefetch' && end.atMs >= askedMs,
      )
      if (isOlder) yield name
    }
  }
}

function isInside(windows: Box['windows'], minute: number): boolean {
  return windows.some(({ fromMinute: from, toMinute: to }) =>
    from < to ? minute >= from && minute < to : minute >= from || minute < to,
  )
}

function* clusterProblems(
  { clusters }: Fleet,
  snapshot: RolloutSnapshot,
  ledger: Ledger,
  { action }: RolloutRecord,
  host: HostRecord,
  box: Box,
  step: string,
): Iterable<Problem> {
  if (box.cluster === undefined) return
  const view = snapshot.clusters.get(box.cluster)
  if (!view) {
    yield ['nothing is known of its cluster', 'unknown']
    if (action === 'leave' && box.server) yield ['leaves a cluster of which nothing is known', 'quorum']
    return
  }
  if (!view.members.get(box.host)?.joined) return
  const boxes = clusters.get(box.cluster) ?? []
  if (step === 'act' && !ONE_ACT.includes(action)) {
    const fetched = host.grants.findLast(grant => grant.step === 'prefetch')
    const plan = fetched && snapshot.operations.get(fetched.operation)?.plan
    const gentle = action === 'apply' && plan !== undefined && !plan.reboots && !plan.touchesKubernetes
    if (!gentle && !box.drained) yield ['acts undrained']
  }
  if (!box.server) {
    const isBehind = boxes.some(one => one.server && one.joined && one.version !== '1.35.4')
    if (action === 'upgrade' && isBehind) yield ['ahead of a server', 'skew']
    return
  }
  const beside = boxes.find(one => {
    const holder = one.server && one !== box ? ledger.opener(one.host) : undefined
    return holder !== undefined && !isFailed(ledger.host(holder, one.host)) && !one.broken
  })
  if (beside) yield [`two servers (${beside.host})`, 'quorum']
  if (step === 'snapshot' || view.datastore.kind !== 'read') return
  const { members } = view.datastore.quorum
  const others = members.filter(({ name, healthy }) => name !== box.host && healthy).length
  const rest = action === 'leave' ? members.length - 1 : members.length
  if (rest === 0) yield ['leaves nobody', 'quorum']
  if ((members.length > 1 || action === 'leave') && others < Math.floor(rest / 2) + 1)
    yield ['without quorum', 'quorum']
}

function* orderProblems(
  { clusters }: RolloutSnapshot,
  ledger: Ledger,
  { id, action, hosts }: RolloutRecord,
  host: HostRecord,
): Iterable<Problem> {
  const done = (name: string) => {
    const record = ledger.host(id, name)
    return record === undefined || isDone(action, record)
  }
  for (const name of host.after) if (!done(name)) yield [`before ${name}`, 'order']
  const mates = hosts.filter(({ cluster }) => cluster !== undefined && cluster === host.cluster)
  if (!host.server && mates.some(mate => mate.server && !done(mate.host)))
    yield ['worker before server', 'servers']
  const cluster = clusters.get(host.cluster ?? '')
  const last = cluster?.leader ?? cluster?.first
  // Whoever is said to go after it does.
  const others = mates.filter(
    mate => mate.server && mate.host !== host.host && !mate.after.includes(host.host),
  )
  if (host.server && last === host.host && others.some(mate => !done(mate.host)))
    yield ['leader before another', 'servers']
  if (host.cluster === 'k1' && hosts.some(({ cluster: other, host: name }) => other === 'k0' && !done(name)))
    yield ['before k0', 'cluster']
  // What is in no cluster precedes nobody here.
  if (!host.canary && host.cluster === undefined && !hosts.some(({ after }) => after.includes(host.host))) {
    if (hosts.some(one => one.canary && !done(one.host))) yield ['before a canary', 'canary']
  }
}

function* budgetProblems(
  fleet: Fleet,
  snapshot: RolloutSnapshot,
  ledger: Ledger,
  rollout: RolloutRecord,
  box: Box,
  past: boolean,
): Iterable<Problem> {
  const isOut = (one: Box) => {
    if (ledger.holder(one.host) !== undefined || !snapshot.hosts.get(one.host)?.connected) return true
    // What somebody else changes may be away at any moment.
    if (isBusy(fleet, one)) return true
    const member = snapshot.clusters.get(one.cluster ?? '')?.members.get(one.host)
    return member?.joined === true && (member.ready !== true || member.cordonedBy !== undefined)
  }
  const seen = [...fleet.boxes.values()].filter(({ host }) => snapshot.hosts.get(host)?.machine)
  const place = snapshot.hosts.get(box.host)
  const pool = seen.filter(({ host }) => {
    const other = snapshot.hosts.get(host)
    return other?.cluster === place?.cluster && other?.server === place?.server
  })
  const away = pool.filter(one => one !== box && isOut(one))
  const out = away.length
  const { settings } = rollout
  const amount = place?.cluster === undefined ? settings.maxUnavailableAlone : settings.maxUnavailable
  const most = place?.server
    ? 1
    : amount.kind === 'number'
      ? amount.number
      : Math.max(1, Math.floor((amount.percent / 100) * pool.length + 1e-9))
  // Whom somebody named does not wait for machines that nobody named and nothing moves; that is written down.
  const waitedFor = away.filter(
    one =>
      ledger.holder(one.host) !== undefined ||
      snapshot.hosts.get(one.host)?.connected ||
      isBusy(fleet, one) ||
      rollout.hosts.some(({ host }) => host === one.host),
  )
  const mayPass = settings.direct && place?.cluster === undefined && waitedFor.length < most
  if (past && (out < most || !mayPass)) yield ['records an override of nothing']
  if (past && mayPass) fleet.counts.pastBudget += 1
  else if (out >= most) yield [`over budget (${out} of ${pool.length} are out, ${most} may be)`, 'budget']
  if (settings.spread === undefined) return
  const mate = seen.find(one => one !== box && one.rack === box.rack && isOut(one))
  if (mate) yield [`not spread (${mate.host})`, 'spread']
}

/** A cluster that would not begin what was granted is asked for ten minutes, the last two of them by one coordinator, and no longer. */
function checkAsking(fleet: Fleet, { operations }: RolloutSnapshot, { closings }: Decision): void {
  const { rollouts, jobs, nowMs, upAtMs, violations } = fleet
  const ends = new Map(closings.map(({ grant, end }) => [grant, end]))
  for (const { id, hosts } of rollouts) {
    for (const { host, grants } of hosts) {
      const open = grants.at(-1)
      if (!open || open.end || open.operation === '' || jobs.has(open.operation)) continue
      const isUnwilling = operations.get(open.operation)?.state === 'unwilling'
      const isLong = nowMs - open.grantedMs >= ASKED_MS && nowMs - upAtMs >= LOOKED_MS
      const isGivenUp = ends.get(open.id)?.outcome === 'failed'
      const where = `${id} ${host} ${open.step}`
      if (isUnwilling && isLong && !isGivenUp) violations.push(`asked for ever: ${where}`)
      if (isGivenUp && !(isUnwilling && isLong)) violations.push(`given up too early: ${where}`)
    }
  }
}

/** What is fetched from bears so many at once. */
function checkFetching(fleet: Fleet, { closings, grants }: Decision): void {
  const closed = new Set(closings.map(({ grant }) => grant))
  const open = fleet.rollouts.flatMap(({ hosts }) =>
    hosts.flatMap(host =>
      host.grants.filter(({ id, step, end }) => step === 'prefetch' && !end && !closed.has(id)),
    ),
  )
  const fresh = grants.filter(({ step, skipped }) => step === 'prefetch' && skipped === undefined)
  const count = open.length + fresh.length
  if (fresh.length > 0 && count > MOST_FETCHING) fleet.violations.push(`${count} fetch at once`)
}

/** Who is left behind was away for ten minutes in a row, or only a person lets it go on. */
function checkEnds(fleet: Fleet, { moves }: Decision): void {
  const { nowMs, heardMs, upAtMs } = fleet
  for (const { rollout: id, state } of moves) {
    const rollout = fleet.rollouts.find(one => one.id === id)
    if (state !== 'succeeded' || !rollout) continue
    for (const { host, grants } of rollout.hosts) {
      const box = fleet.boxes.get(host)
      if (!box || grants.some(({ step }) => step === 'act') || isKeptByPeople(fleet, rollout, box)) continue
      if (grants.filter(({ step }) => step === 'uncordon').length >= MOST_HAND_BACKS) continue
      if (isHeld(fleet, box) || isTargetless(fleet, box)) continue
      const sinceMs = Math.max(heardMs.get(host) ?? 0, upAtMs)
      if (nowMs - sinceMs < 600_000) fleet.violations.push(`left behind after a moment: ${id} ${host}`)
    }
  }
}

/** Gates that what comes before a host holds, and that stay closed where it has failed or was left behind. */
const BY_OTHERS = ['rollout', 'cluster', 'order', 'servers', 'canary', 'skew']
/** What a failed host takes from others until somebody mends it. */
const BY_FAILED = ['budget', 'spread', 'quorum']
/** So long somebody has to mend it. */
const MENDED_MS = 600_000

/**
 * No rollout is over while a host could go, or waits for nothing but its time: who has its turn no more waits for what failed or was left
 * behind, or what failed takes what it needs and nobody has mended that for long enough.
 */
function checkGivenUp(fleet: Fleet, snapshot: RolloutSnapshot, ledger: Ledger, { moves }: Decision): void {
  const { nowMs, heardMs, upAtMs, violations } = fleet
  for (const { rollout: id, state } of moves) {
    const rollout = fleet.rollouts.find(one => one.id === id)
    if ((state !== 'succeeded' && state !== 'failed') || rollout?.state !== 'running') continue
    const hosts = rollout.hosts.flatMap(({ host }) => ledger.host(id, host) ?? [])
    const failed = hosts.filter(isFailed).map(({ host }) => host)
    const newest = hosts.flatMap(({ grants }) =>
      grants.flatMap(({ grantedMs, end }) => [grantedMs, end?.atMs ?? 0]),
    )
    const canaries = hosts.filter(host => host.canary && !isDone(rollout.action, host))
    const isStill = nowMs - Math.max(rollout.startedMs, upAtMs, ...newest) >= MENDED_MS
    for (const host of hosts) {
      const { host: name, grants } = host
      const box = fleet.boxes.get(name)
      const isWaiting = !isFailed(host) && !grants.some(({ step }) => step === 'act')
      if (!box || !isWaiting || isKeptByPeople(fleet, rollout, box)) continue
      if (isHeld(fleet, box) || isTargetless(fleet, box)) continue
      if (grants.filter(({ step }) => step === 'uncordon').length >= MOST_HAND_BACKS) continue
      if (!host.canary && canaries.length > 0) continue
      const isAway = !snapshot.hosts.get(name)?.connected
      if (isAway && nowMs - Math.max(heardMs.get(name) ?? 0, upAtMs) >= MENDED_MS) continue
      const step = box.cluster === undefined ? 'act' : 'drain'
      const grant: NewGrant = { rollout: id, host: name, machine: '', step, attempt: 0, skipped: undefined }
      const holding = [
        ...problemsOf(fleet, snapshot, ledger, rollout, host, box, grant, failed, false),
      ].filter(
        ([, gate = '']) =>
          !PASSED[rollout.action]?.includes(gate) &&
          !(OPENABLE.includes(gate) && rollout.overrides.has(`${name} ${gate}`)),
      )
      if (holding.some(([what, gate = '']) => BY_OTHERS.includes(gate) || /^after /.test(what))) continue
      if (isStill && holding.some(([, gate = '']) => BY_FAILED.includes(gate))) continue
      const why = holding.map(([what]) => what).join(', ')
      violations.push(`${id} gives ${name} up, which ${why === '' ? 'could go' : `waits: ${why}`}`)
    }
  }
}

function isKeptByPeople(fleet: Fleet, rollout: RolloutRecord, box: Box): boolean {
  const isPinned = box.pin !== undefined && box.pin.untilMs > fleet.nowMs
  const isForbidden = ['snapshot', 'drain', 'act'].some(
    step => [...allowProblems(fleet, rollout, box, step)].length > 0,
  )
  return (
    [box.lock !== undefined, isPinned, isForbidden, box.quarantined.has(rollout.revision)].some(Boolean) ||
    box.enrolsAtMs > fleet.nowMs
  )
}

function checkClosings(
  { rollouts, boxes, nowMs, violations }: Fleet,
  snapshot: RolloutSnapshot,
  { closings }: Decision,
): void {
  const alone = new Set(
    rollouts.flatMap(({ hosts }) =>
      hosts.flatMap(({ host, cluster }) => (cluster === undefined ? [host] : [])),
    ),
  )
  for (const box of boxes.values()) {
    const member = snapshot.clusters.get(box.cluster ?? '')?.members.get(box.host)
    // Of what was begun outside of its cluster nobody has to say how its node is before it has one.
    const isOutside =
      [box.cluster === undefined, member?.joined === false].some(Boolean) ||
      (alone.has(box.host) && !member?.joined)
    const well = snapshot.hosts.get(box.host)?.connected && (isOutside || member?.ready === true)
    if (!well) box.shownUnwellMs = nowMs
  }
  for (const { rollout: id, host: name, grant: row, end } of closings) {
    const rollout = rollouts.find(one => one.id === id)
    const host = rollout?.hosts.find(one => one.host === name)
    const box = boxes.get(name)
    const grant = host?.grants.find(one => one.id === row)
    if (!rollout || !host || !box || !grant || grant.end) {
      violations.push(`closes nothing: ${id} ${name} ${row}`)
      continue
    }
    const isRetry = end.outcome === 'again' && grant.step !== 'soak'
    if (isRetry && grant.attempt > RETRY_AFTER_MS.length) violations.push(`tried too often: ${id} ${name}`)
    if (end.outcome !== 'done') continue
    if (grant.step === 'prove') {
      const member = snapshot.clusters.get(box.cluster ?? '')?.members.get(name)
      const acted = host.grants.findLast(({ step }) => step === 'act')?.end?.atMs ?? 0
      const isSilent = box.renewedMs <= box.stoppedMs
      if (!member || member.asOfMs <= acted || isSilent) violations.push(`stale proof: ${id} ${name}`)
      if (rollout.action === 'upgrade' && box.version !== '1.35.4')
        violations.push(`false proof: ${id} ${name}`)
    }
    const soakMs = Math.max(rollout.settings.soakMs, host.canary ? rollout.settings.canarySoakMs : 0)
    const isOpened = rollout.overrides.has(`${name} soak`)
    if (grant.step === 'soak' && !isOpened && soakMs > 0 && nowMs - box.shownUnwellMs < soakMs) {
      violations.push(`soaked while not well: ${id} ${name}`)
    }
  }
}
