import type { Clock } from '../../shared/clock.ts'
import { cutText } from '../../shared/cut-text.ts'
import { reasonOf } from '../../shared/errors.ts'
import { operationId } from '../../shared/ids.ts'
import { pause } from '../../shared/lifecycle.ts'
import type { Logger } from '../../shared/log.ts'
import type { OwnHostBackup } from '../backup/own-host-backup.ts'
import type { OwnHost } from '../machines/own-host.ts'
import type { ChangeFeed } from '../operations/change-feed.ts'
import { isChange } from '../operations/order-action.ts'
import { ORDER_LIFETIME_MS } from '../operations/order-lifetime.ts'
import type { NewOrders } from '../operations/write-orders.ts'
import type { Sessions } from '../sessions/sessions.ts'
import { type Applied, actionOf, applyDecision, StaleDecision, wantedActs } from './apply-decision.ts'
import type { WantedAct } from './cluster-source.ts'
import type { GateQuestions } from './gate-questions.ts'
import { unwilling } from './operation-view.ts'
import type { Decision } from './plan/decision.ts'
import { evidenceAwaited } from './plan/evidence-awaited.ts'
import { planRollouts } from './plan/plan-rollouts.ts'
import type { RolloutSnapshot } from './plan/rollout-snapshot.ts'
import { hostQuestions, jobQuestions } from './questions-for.ts'
import type { RolloutRows } from './read-record.ts'
import { readSnapshot, type SnapshotDeps } from './read-snapshot.ts'

export interface RunnerDeps extends SnapshotDeps {
  readonly gateQuestions: SnapshotDeps['gateQuestions'] & Pick<GateQuestions, 'follow'>
  readonly jobQuestions: SnapshotDeps['jobQuestions'] & Pick<GateQuestions, 'follow'>
  readonly clock: Clock
  readonly log: Logger
  readonly sessions: SnapshotDeps['sessions'] & Pick<Sessions, 'wake'>
  /** Told the id of each rollout that changed. */
  readonly rolloutFeed: ChangeFeed
  readonly operationFeed: ChangeFeed
  readonly ownHost: OwnHost
  readonly ownHostBackup: OwnHostBackup
  readonly orderLifetimeMs?: number
  /** Called when a rollout ended that is to be taken back by its policy; the store says which. */
  readonly takeBack: () => void
}

const EVERY_MS = 1_000
/** A run may take this share of the time at most: large fleets are looked at less often, or when something happens. */
const LEAST_PAUSES = 5
/** A look at all rollouts takes milliseconds; one that lasts so long comes to no end. */
const LONGEST_LOOK_MS = 60_000
/** What one decision makes possible is decided at once, up to so many times. */
const MOST_ROUNDS = 50

/**
 * Looks at all rollouts, lets the planner decide, and writes what it decided.
 * INVARIANTS: one run at a time; a run reads everything afresh and holds nothing over; what is decided is written in one transaction
 * with the orders it gives, or not at all; nobody else grants anything.
 */
export class RolloutRunner {
  readonly #deps: RunnerDeps
  #turn: Promise<unknown> = Promise.resolve()
  /** Since when no look has come to a good end though one was begun, by the clock that never goes back. */
  #sinceMs: number | undefined
  /** What the newest look failed of; undefined: none has failed since one ended well. */
  #failure: string | undefined
  #wanted = false
  #wake: (() => void) | undefined
  /** Nothing is open as far as is known; a start wakes it. */
  #idle = false
  /** How often somebody said that something is open: what was read before the last time says nothing of it. */
  #said = 0
  /** Acts that were granted and that their clusters would not begin when they were last asked, and why. */
  readonly #unwilling = new Map<string, string>()

  constructor(deps: RunnerDeps) {
    this.#deps = deps
  }

  /** Something happened that may matter: a run follows soon. */
  trigger(): void {
    this.#wanted = true
    this.#wake?.()
  }

  /** A rollout was begun, or something changed for those that are open. */
  changed(): void {
    this.#rouse()
    this.trigger()
  }

  /** Runs once more, after whatever runs now, and waits for it. */
  async runNow(): Promise<void> {
    this.#rouse()
    await this.#once()
  }

  #rouse(): void {
    this.#said += 1
    this.#idle = false
  }

  /** Runs until the signal fires: when something happens, and every second while anything is open. */
  async run(signal: AbortSignal): Promise<void> {
    let pauseMs = EVERY_MS
    while (!signal.aborted) {
      this.#wanted = false
      if (!this.#idle) {
        const begun = performance.now()
        try {
          await this.#once()
        } catch (error) {
          this.#deps.log.error({ err: error }, 'rollouts not looked at; it is tried again')
        }
        pauseMs = Math.max(EVERY_MS, (performance.now() - begun) * LEAST_PAUSES)
      }
      await this.#until(pauseMs, signal)
    }
  }

  async #until(ms: number, signal: AbortSignal): Promise<void> {
    if (this.#wanted && !this.#idle) {
      // What comes in crowds is looked at together.
      await pause(20, signal)
      return
    }
    const controller = new AbortController()
    const wake = () => controller.abort()
    signal.addEventListener('abort', wake, { once: true })
    this.#wake = () => {
      if (!this.#idle) wake()
    }
    try {
      await pause(ms, controller.signal)
    } finally {
      this.#wake = undefined
      signal.removeEventListener('abort', wake)
    }
  }

  /** Why nobody looks at rollouts, which takes milliseconds: a look comes to no end, or all have failed for so long. Undefined: they are looked at. */
  standstill(): string | undefined {
    const forMs = this.#sinceMs === undefined ? 0 : performance.now() - this.#sinceMs
    if (forMs <= LONGEST_LOOK_MS) return undefined
    const what =
      this.#failure === undefined
        ? 'one look at them has come to no end'
        : `looking at them fails: ${this.#failure}`
    return `rollouts stand still: for ${Math.floor(forMs / 60_000)} min ${what}`
  }

  #once(): Promise<void> {
    const done = this.#turn.then(async () => {
      this.#sinceMs ??= performance.now()
      try {
        await this.#rounds()
        this.#sinceMs = undefined
        this.#failure = undefined
      } catch (error) {
        this.#failure = cutText(reasonOf(error), 200)
        throw error
      }
    })
    this.#turn = done.catch(() => {}) // whoever asked hears of it; the next in turn starts from what is there
    return done
  }

  async #rounds(): Promise<void> {
    for (let round = 0; round < MOST_ROUNDS; round++) {
      const now = this.#deps.clock.now()
      const said = this.#said
      const { snapshot: read, rows } = await readSnapshot(this.#deps, now.getTime())
      const snapshot = this.#withUnwilling(read)
      if (rows.rollouts.length === 0) {
        this.#idle = said === this.#said
        this.#deps.clusters.follow(new Map())
        this.#deps.gateQuestions.follow(new Map())
        this.#deps.jobQuestions.follow(new Map())
        return
      }
      const decision = planRollouts(snapshot, now.getTime())
      const applied = await this.#apply(rows, decision, now, snapshot.halted)
      if (applied === 'stale') continue
      this.#deps.clusters.follow(evidenceAwaited(snapshot, decision))
      this.#deps.gateQuestions.follow(hostQuestions(snapshot, decision))
      this.#deps.jobQuestions.follow(jobQuestions(snapshot, decision))
      this.#tell(applied)
      await this.#askForActs(rows, read)
      if (applied.takesBack) this.#deps.takeBack()
      if (!applied.decided) return
    }
  }

  async #apply(
    rows: RolloutRows,
    decision: Decision,
    now: Date,
    halted: string | undefined,
  ): Promise<Applied | 'stale'> {
    const { store, directory, orderLifetimeMs = ORDER_LIFETIME_MS, ownHost, ownHostBackup } = this.#deps
    const ownMachine = ownHost()
    const backups = await this.#backUp(rows, decision, ownMachine, now)
    try {
      const input = { directory, lifetimeMs: orderLifetimeMs, ownMachine, backups }
      const applied = await store.transact(async tx => {
        // What a node said since then may stop every grant.
        if (halted === undefined && this.#deps.halted() !== undefined) throw new StaleDecision()
        return await applyDecision(tx, input, rows, decision, now)
      })
      for (const backup of backups.values()) {
        await ownHostBackup.settle(backup, applied.machines.includes(ownMachine ?? ''))
      }
      return applied
    } catch (error) {
      for (const backup of backups.values()) await ownHostBackup.settle(backup, false)
      if (error instanceof StaleDecision) return 'stale'
      throw error
    }
  }

  /** The coordinator's own host may take the coordinator down with it, so a copy lies ready before it is moved. */
  async #backUp(
    rows: RolloutRows,
    decision: Decision,
    ownMachine: string | undefined,
    now: Date,
  ): Promise<ReadonlyMap<string, NonNullable<NewOrders['backup']>>> {
    const backups = new Map<string, NonNullable<NewOrders['backup']>>()
    if (ownMachine === undefined) return backups
    for (const { rollout, host, machine, step, skipped } of decision.grants) {
      const row = rows.rollouts.find(({ id }) => id === rollout)
      const action = row && actionOf(row, step)
      if (machine !== ownMachine || skipped !== undefined || !action || !isChange(action.word)) continue
      const operation = operationId(now)
      backups.set(`${rollout} ${host}`, { operation, path: await this.#deps.ownHostBackup.make(operation) })
    }
    return backups
  }

  #tell({ rollouts, machines, operations }: Applied): void {
    for (const id of operations) this.#deps.operationFeed.notify(id)
    for (const id of rollouts) this.#deps.rolloutFeed.notify(id)
    for (const machine of machines) this.#deps.sessions.wake(machine)
  }

  /** What clusters said against acts when they were last asked: a rollout tells it, and does not ask for ever. */
  #withUnwilling(snapshot: RolloutSnapshot): RolloutSnapshot {
    if (this.#unwilling.size === 0) return snapshot
    const operations = new Map(snapshot.operations)
    for (const [id, reason] of this.#unwilling)
      if (!operations.has(id)) operations.set(id, unwilling(id, reason))
    return { ...snapshot, operations }
  }

  /** Acts that were granted before this run; those of this run are asked for in the next round. */
  async #askForActs(rows: RolloutRows, { operations }: RolloutSnapshot): Promise<void> {
    const wanted = wantedActs(rows, new Set(operations.keys()))
    const before = new Map(this.#unwilling)
    this.#unwilling.clear()
    for (const act of wanted) {
      const problem = await this.#ask(act)
      if (problem === undefined) continue
      this.#unwilling.set(act.id, problem)
      if (before.get(act.id) !== problem)
        this.#deps.log.warn({ act: act.id, reason: problem }, 'act not begun')
    }
  }

  async #ask(act: WantedAct): Promise<string | undefined> {
    try {
      return await this.#deps.clusters.ask(act)
    } catch (error) {
      this.#deps.log.error({ act: act.id, err: error }, 'act not asked for')
      return 'the coordinator could not ask for it'
    }
  }
}
