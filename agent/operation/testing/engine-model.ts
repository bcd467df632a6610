import { create } from '@bufbuild/protobuf'
import { OrderSchema } from '../../../shared/gen/muster/v1/agent_pb.ts'
import {
  type Outcome,
  OutcomeClass,
  OutcomeSchema,
  Phase,
} from '../../../shared/gen/muster/v1/operation_pb.ts'
import type { ArmRecord } from '../../safety/arm-record.ts'
import { type Deadline, leftUntil } from '../../safety/deadline.ts'
import { judgeSwitch } from '../../safety/judge-switch.ts'
import { judgeAtBoot } from '../../safety/rearm-at-boot.ts'
import type { ReturnEnd } from '../../safety/return-end.ts'
import type { BootTime } from '../../safety/uptime.ts'
import type { Verdict } from '../../safety/verdict.ts'
import { foldJournal, type OperationState } from '../fold.ts'
import type { NewRecord } from '../journal-record.ts'
import { nextStep, type Observed, type Step } from '../next-step.ts'

export const OLD = '/nix/store/old'
export const NEW = '/nix/store/new'
const BY_HAND = '/nix/store/by-hand'
const CONFIRM_MS = 400
const SWITCH_MS = 200
const FIRST_MS = 800
const TICK_MS = 5

/** What a switch may do, told by how it ends. */
export const SWITCH_ENDS = [0, 1, 2, 4, 11, 100, 101, 'killed', 'hangs'] as const
type SwitchEnd = (typeof SWITCH_ENDS)[number]

/** What is fixed for one run of the model. */
export interface Scenario {
  readonly mode: 'switch' | 'trial'
  readonly switchEnds: SwitchEnd
  /** Whether it breaks off, or fails, only after it has moved the system. */
  readonly inTheMiddle: boolean
  readonly gates: 'healthy' | 'unhealthy' | 'unavailable'
  readonly coordinator: 'answers' | 'at the last moment' | 'silent' | 'late'
  /** The boot loader does what it was told. */
  readonly trialBoots: boolean
  readonly bootEntryFails: boolean
  /** What becomes of Kubernetes with the new system. */
  readonly kubernetes: 'stays' | 'changes' | 'changes and fails'
}

/** What may happen to the machine. */
export type Act = 'agent' | 'dead man' | 'time' | 'kill' | 'cut' | 'crash' | 'hand'

/** Goes on from yield to yield: what happens between two of them happens as a whole, or not at all. */
type Process = Generator<void, void>

interface Unit {
  readonly startedMs: number
  readonly endsMs: number
}

/**
 * A machine in memory: its journal and its round on disk, its boots, the agent, the unit of the switch and the dead man, one
 * small act at a time in any order. What decides is the agent's own code; only the acts are the model's.
 */
export class EngineModel {
  readonly scenario: Scenario
  readonly records: NewRecord[] = []
  readonly steps: Step['kind'][] = []
  /** What was found to be wrong on the way. */
  readonly faults: string[] = []
  current = OLD
  profile = OLD
  verdict: Verdict = { kind: 'none' }
  began = 0
  /** Whose Kubernetes runs; undefined: none. */
  kubernetes: string | undefined = OLD
  /** What keeps it from being started: the change, or one that is letting it go. */
  held: 'down' | 'going' | undefined
  restarts = 0
  rounds = 0
  #booted = OLD
  #boot = 1
  #nowMs = 0
  #instance = 1
  #deadline: Deadline | undefined
  #promoting = false
  /** The agent decided to promote: what is switched by hand from here on comes too late for it to see. */
  #settling = false
  #end: ReturnEnd | undefined
  #arm: ArmRecord | undefined
  #unit: Unit | undefined
  #mark: { readonly began: boolean; readonly ended: SwitchEnd | undefined } = {
    began: false,
    ended: undefined,
  }
  #oneShot = false
  readonly #timers: { readonly dueMs: number }[] = []
  #agent: Process | undefined
  #deadMan: Process | undefined

  constructor(scenario: Scenario) {
    this.scenario = scenario
    this.#record({ kind: 'accepted', order: create(OrderSchema, { operationId: 'op' }) })
  }

  get outcome(): Outcome | undefined {
    return this.#state().outcome
  }

  /** One act of somebody, or of fate. */
  act(who: Act): void {
    this.#nowMs += TICK_MS
    this.#advance()
    switch (who) {
      case 'agent':
        this.#agent ??= this.#runAgent()
        if (this.#agent.next().done) this.#agent = undefined
        return
      case 'dead man':
        if (this.#deadMan?.next().done) this.#deadMan = undefined
        return
      case 'time':
        this.#nowMs += SWITCH_MS / 4
        return
      case 'kill':
        this.#agent = undefined
        this.#instance += 1
        return
      case 'cut':
        this.#bootAnew()
        return
      case 'crash':
        // systemd starts it again, from the units that are there now.
        this.kubernetes = undefined
        this.#startKubernetes()
        return
      case 'hand':
        // Somebody rebuilds while the change is on trial: nothing holds the lock any more.
        if (this.current === NEW && this.verdict.kind === 'none' && !this.#settling) this.current = BY_HAND
        return
    }
  }

  #record(
    record: NewRecord extends infer R ? (R extends NewRecord ? Omit<R, 'operation'> : never) : never,
  ): void {
    this.records.push({ ...record, operation: 'op' })
  }

  #state(): OperationState {
    const numbered = this.records.map((record, index) => ({
      ...record,
      sequence: index + 1,
      at: new Date(0),
    }))
    const state = foldJournal(numbered).get('op')
    if (!state) throw new Error('the journal has no operation')
    return state
  }

  #time(): BootTime {
    return { bootId: `boot-${this.#boot}`, uptimeMs: this.#nowMs }
  }

  #observe(): Observed {
    return {
      now: this.#time(),
      instance: String(this.#instance),
      current: this.current,
      booted: this.#booted,
      verdict: this.verdict,
      returnEnd: this.#end,
      deadline: this.#deadline,
      recordProblem: undefined,
      newerRecord: undefined,
    }
  }

  #over(): boolean {
    return this.#deadline !== undefined && leftUntil(this.#deadline, this.#time()) === 0
  }

  #claim(verdict: Verdict): void {
    if (this.verdict.kind === 'none') this.verdict = verdict
  }

  #setDeadline(afterMs: number, of: Deadline['of']): void {
    this.#deadline = { ...this.#time(), uptimeMs: this.#nowMs + afterMs, of }
  }

  /** What happens by itself: the switch goes on, timers fire. */
  #advance(): void {
    const unit = this.#unit
    if (unit && !this.#mark.began) {
      this.#mark = { began: true, ended: undefined }
      this.began += 1
    }
    if (unit && this.#nowMs >= unit.endsMs) this.#endSwitch(this.scenario.switchEnds)
    const due = this.#timers.findIndex(({ dueMs }) => this.#nowMs >= dueMs)
    if (due === -1) return
    this.#timers.splice(due, 1)
    this.#deadMan ??= this.#walkBack()
  }

  #endSwitch(end: SwitchEnd): void {
    this.#unit = undefined
    if (end === 0 || end === 4 || this.scenario.inTheMiddle) this.current = NEW
    this.#mark = { began: true, ended: end }
  }

  /** What a boot, systemd or the agent does; the units' own condition decides. */
  #startKubernetes(): void {
    if (this.held === 'down' || this.kubernetes === this.current) return
    if (this.current === NEW && this.scenario.kubernetes !== 'stays' && this.verdict.kind !== 'confirmed') {
      this.faults.push('the new Kubernetes was started in a system that was not confirmed')
    }
    if (this.kubernetes === NEW && this.current === OLD) this.faults.push('Kubernetes went back')
    this.kubernetes = this.current
  }

  /** As `letKubernetesGo` does: it can be cut in between. */
  *#letGo(): Process {
    if (this.held === 'down') {
      this.held = 'going'
      yield
    }
    if (this.held !== 'going') return
    // What runs is left alone.
    if (this.kubernetes === undefined) this.#startKubernetes()
    yield
    this.held = undefined
  }

  #stopSwitch(): void {
    if (this.#unit) this.#endSwitch('killed')
  }

  #startSwitch(): void {
    if (this.#unit) return
    const { switchEnds } = this.scenario
    const takesMs = switchEnds === 'hangs' ? Number.POSITIVE_INFINITY : SWITCH_MS / 2
    this.#unit = { startedMs: this.#nowMs, endsMs: this.#nowMs + takesMs }
  }

  /** A power cut, or a boot that was asked for: what is on disk stays, and nothing else. */
  #bootAnew(): void {
    if (this.#unit) {
      // Cut in the middle: how far it came is chance, and it wrote no mark.
      if (this.scenario.inTheMiddle) this.current = NEW
      this.#unit = undefined
    }
    this.#boot += 1
    this.#nowMs = 0
    this.#instance += 1
    this.#agent = undefined
    this.#deadMan = undefined
    this.#timers.length = 0
    this.#booted = this.#oneShot && this.scenario.trialBoots ? NEW : this.profile
    this.#oneShot = false
    this.current = this.#booted
    this.kubernetes = undefined
    this.#startKubernetes()
    if (!this.#arm) return
    const armedFor = this.#deadline?.bootId
    const { bootId } = this.#time()
    const finding = {
      arm: this.#arm,
      verdict: this.verdict,
      end: this.#end,
      bootId,
      booted: this.#booted,
      armedFor,
    }
    switch (judgeAtBoot(finding).kind) {
      // No boot of the model has the one before it for its own.
      case 'keep':
      case 'nothing':
        return
      case 'arm':
        this.#promoting = false
        this.#setDeadline(CONFIRM_MS, 'proof')
        this.#timers.push({ dueMs: this.#nowMs + CONFIRM_MS })
        return
      case 'claim-and-return':
        this.#claim({ kind: 'returned', claim: { by: 'boot' } })
        this.#deadMan = this.#walkBack()
        return
      case 'return':
        this.#deadMan = this.#walkBack()
    }
  }

  *#walkBack(): Process {
    for (;;) {
      if (this.verdict.kind === 'confirmed' || this.verdict.kind === 'untouched') return
      if (this.verdict.kind === 'returned') break
      const deadline = this.#deadline
      const over = this.#over()
      yield
      // What it had read may have changed since.
      if (over && deadline?.of === (this.#promoting ? 'promotion' : 'proof')) {
        this.#claim({ kind: 'returned', claim: { by: 'deadline' } })
      }
      yield
    }
    const arm = this.#arm
    if (this.#end?.kind === 'returned' || !arm) return
    const before = this.#end
    this.#stopSwitch()
    yield
    const { bootId } = this.#time()
    const again = before?.kind === 'booting' && before.bootId !== bootId
    if (arm.mode !== 'switch' && bootId !== arm.bootId && this.#booted === NEW && !again) {
      this.#oneShot = false
      this.profile = OLD
      yield
      this.#end = { kind: 'booting', bootId, reason: 'boots' }
      yield
      return this.#bootAnew()
    }
    const freshlyBooted = bootId !== arm.bootId && this.#booted === OLD
    if (this.current !== OLD || (this.#mark.began && !freshlyBooted)) {
      yield
      this.current = OLD
      yield
    }
    this.#oneShot = false
    this.profile = OLD
    yield
    yield* this.#letGo()
    this.#end = { kind: 'returned', reason: `runs ${OLD} again` }
    this.#agent = undefined
    this.#instance += 1
  }

  *#runAgent(): Process {
    for (let count = 0; count < 1_000; count++) {
      const state = this.#state()
      const step = nextStep(state, this.#observe())
      this.steps.push(step.kind)
      if (step.kind === 'finished') return
      yield* this.#take(step, state)
      if (this.#state().outcome) return
      yield
    }
    this.faults.push('the agent decides without an end')
  }

  *#take(step: Step, state: OperationState): Process {
    switch (step.kind) {
      case 'prepare':
        return yield* this.#prepare(state)
      case 'activate':
        this.#record({ kind: 'started', phase: Phase.ACTIVATE })
        yield
        this.#startSwitch()
        return yield* this.#watch(state)
      case 'watch-switch':
        yield
        if (!this.#unit && !this.#mark.began) this.#startSwitch()
        return yield* this.#watch(state)
      case 'restart-agent':
        this.#record({ kind: 'restart', instance: String(this.#instance) })
        yield
        this.#instance += 1
        this.#agent = this.#runAgent()
        return
      case 'reboot':
        if (state.round?.rebootedFrom === undefined) {
          this.#oneShot = true
          yield
          this.#record({ kind: 'reboot', bootId: this.#time().bootId })
          yield
        }
        return this.#bootAnew()
      case 'prove':
        return yield* this.#prove()
      case 'confirm':
        return yield* this.#confirm(state)
      case 'promote':
        return yield* this.#promote()
      case 'kubernetes': {
        if (this.verdict.kind !== 'confirmed') this.faults.push('Kubernetes before the confirmation')
        yield
        if (!state.kubernetes?.started) {
          this.held = undefined
          yield
          this.kubernetes = undefined
          yield
          this.#startKubernetes()
          this.restarts += 1
          yield
          this.#record({ kind: 'kubernetes-started' })
        }
        yield
        const fails = this.scenario.kubernetes === 'changes and fails'
        return this.#record({ kind: 'kubernetes-ended', failure: fails ? 'it is not well' : undefined })
      }
      case 'claim-return':
        this.#claim({ kind: 'returned', claim: step.claim })
        return
      case 'await-return':
        while (!this.#end || this.#end.kind === 'booting') {
          const boots = this.#end?.bootId === this.#time().bootId
          if (!boots) this.#deadMan ??= this.#walkBack()
          yield
        }
        return
      case 'conclude': {
        yield
        yield* this.#letGo()
        const { class: kind, reason, firstCause } = step.conclusion
        const outcome = create(OutcomeSchema, {
          class: kind,
          reason,
          ...(firstCause !== undefined && { firstCause }),
        })
        this.#record({ kind: 'outcome', outcome })
        return
      }
      case 'finished':
      case 'act':
        this.faults.push(`an order to apply became ${step.kind}`)
    }
  }

  *#prepare(state: OperationState): Process {
    this.#record({ kind: 'started', phase: Phase.VERIFY })
    yield
    this.#record({ kind: 'system', storePath: NEW })
    yield
    const number = (state.round?.number ?? 0) + 1
    const { mode } = this.scenario
    const { bootId } = this.#time()
    // A folder of its own, which is empty.
    this.verdict = { kind: 'none' }
    this.#end = undefined
    this.#promoting = false
    this.#mark = { began: false, ended: undefined }
    this.#arm = {
      operation: 'op',
      round: number,
      mode,
      target: NEW,
      previous: this.current,
      profile: this.profile,
      generation: 1,
      bootId,
      confirmMs: CONFIRM_MS,
      switchMs: SWITCH_MS,
      program: ['agent'],
      toolPath: '/',
      systemRoot: '/',
      units: 'systemd',
    }
    this.#setDeadline(FIRST_MS, 'proof')
    this.#timers.push({ dueMs: this.#nowMs + FIRST_MS })
    // The journal's own word for it comes last; cut before it, all of this is done again.
    const changes = this.scenario.kubernetes !== 'stays'
    if (changes) this.held = 'down'
    this.#record({
      kind: 'armed',
      round: number,
      mode,
      bootId,
      target: NEW,
      failedBefore: [],
      ...(changes && { kubernetes: { server: true, from: '1.34.3', to: '1.35.4' } }),
    })
    this.rounds = number
  }

  *#watch(state: OperationState): Process {
    const startedMs = this.#nowMs
    let overdue: string | undefined
    while (this.#unit) {
      if (this.#nowMs - startedMs > SWITCH_MS) {
        overdue = 'nothing is known'
        this.#stopSwitch()
      }
      yield
    }
    const { began, ended } = this.#mark
    const moved = this.scenario.inTheMiddle || ended === 0 || ended === 4
    const exited = typeof ended === 'number'
    const end = {
      at: new Date(0),
      result: '',
      code: exited ? 'exited' : 'killed',
      status: exited ? String(ended) : 'KILL',
    }
    const lines = [
      ...(moved ? ['activating the configuration...'] : []),
      ...(ended === 11 && !moved ? ['Could not acquire lock'] : []),
      ...(ended === 4 ? ['warning: the following units failed: x.service'] : []),
    ]
    const judged = judgeSwitch({
      seen: {
        began,
        end: ended === undefined ? undefined : end,
        overdue,
        alive: undefined,
        lines,
        opening: moved,
        closing: false,
        listsLeft: false,
        currentAfter: this.current,
      },
      target: NEW,
      currentBefore: OLD,
      failedBefore: new Set(),
      failedAfter: new Set(),
      tolerated: [],
    })
    yield
    if (judged.kind === 'good') {
      this.#record({ kind: 'activated', instance: String(this.#instance), degraded: judged.degraded })
      yield
      if (this.verdict.kind === 'none') this.#setDeadline(CONFIRM_MS, 'proof')
      this.#timers.push({ dueMs: this.#nowMs + CONFIRM_MS })
      return
    }
    const { class: kind, refusal, reason, exitCode } = judged
    this.#claim(
      judged.kind === 'untouched'
        ? { kind: 'untouched', class: kind, refusal, reason, exitCode }
        : { kind: 'returned', claim: { by: 'agent', class: kind, reason } },
    )
    if (state.round?.number === undefined) this.faults.push('a switch without a round')
  }

  *#prove(): Process {
    yield
    const { gates } = this.scenario
    if (gates === 'healthy') return this.#record({ kind: 'proved', degraded: [] })
    while (gates === 'unavailable' && !this.#over() && this.verdict.kind === 'none') yield
    const kind = gates === 'unhealthy' ? OutcomeClass.ACTIVATION_FAILED : OutcomeClass.UNKNOWN
    this.#claim({ kind: 'returned', claim: { by: 'agent', class: kind, reason: gates } })
  }

  *#confirm(state: OperationState): Process {
    const instance = String(this.#instance)
    if (state.round?.activatedBy === instance)
      this.faults.push('the process that activated asks to be confirmed')
    while (!this.#over() && this.verdict.kind === 'none') {
      yield
      const leftMs = (this.#deadline?.uptimeMs ?? 0) - this.#nowMs
      const { coordinator } = this.scenario
      if (coordinator !== 'answers' && !(coordinator === 'at the last moment' && leftMs <= 2 * TICK_MS))
        continue
      // Between the answer and the record time goes on.
      if (!this.#over()) this.#record({ kind: 'confirmed', by: 'coordinator' })
      return
    }
    // An answer that comes too late is none.
    if (this.scenario.coordinator === 'late' && !this.#over())
      this.#record({ kind: 'confirmed', by: 'coordinator' })
  }

  *#promote(): Process {
    if (this.#over()) this.faults.push('promoted after its deadline')
    if (this.current !== NEW) this.faults.push('promoted what does not run')
    this.#settling = true
    const { bootId } = this.#time()
    if (this.#deadline?.of !== 'promotion' || this.#deadline.bootId !== bootId)
      this.#setDeadline(SWITCH_MS, 'promotion')
    yield
    this.#promoting = true
    if (this.verdict.kind !== 'none') return
    yield
    if (this.#end) this.faults.push('promoted what was taken back')
    this.profile = NEW
    yield
    if (this.scenario.bootEntryFails) {
      const reason = 'its boot entry was not written'
      return this.#claim({
        kind: 'returned',
        claim: { by: 'agent', class: OutcomeClass.ACTIVATION_FAILED, reason },
      })
    }
    this.#record({ kind: 'promoted' })
    yield
    this.#claim({ kind: 'confirmed' })
  }
}
