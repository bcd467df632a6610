import { create } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type {
  AuditHead,
  OperationAck,
  Order,
  Probe,
  Welcome,
} from '../../../shared/gen/muster/v1/agent_pb.ts'
import {
  type OperationReport,
  OperationReportSchema,
  OutcomeClass,
  Phase,
} from '../../../shared/gen/muster/v1/operation_pb.ts'
import { pause } from '../../../shared/lifecycle.ts'
import type { RawMachine, RawSession } from '../../support/raw-machine.ts'

/** How long a played change takes. */
const CHANGE_MS = 150
const LOOK_MS = 20

/**
 * A node that is played by the test over the real protocol: it takes an order once, however often it comes, is "away" while it changes,
 * tells the outcome until it is acknowledged, and comes back when the coordinator was killed. It changes nothing.
 */
export class PlayedNode implements AsyncDisposable {
  readonly host: string
  readonly machine: RawMachine
  /** Orders that were taken, by operation; a second one for what is done or under way would be seen here. */
  readonly taken: {
    readonly operation: string
    readonly action: string
    readonly revision: number
    readonly atMs: number
  }[] = []
  /** When its newest change ended. */
  endedMs = 0
  /** It is changing just now. */
  moving = false
  /** How its changes end. */
  outcome: OutcomeClass = OutcomeClass.SUCCEEDED
  /** What each of its gates says: "healthy" and the like. Undefined: it does not answer what is asked of them. */
  gates: readonly string[] | undefined = ['healthy']
  /** How often its gates were asked. */
  asked = 0
  /** It has no session while this is set. */
  silent = false
  highestRevision = 0n
  highestDigest = ''
  readonly #reports = new Map<string, OperationReport>()
  readonly #acknowledged = new Set<string>()
  readonly #stop = new AbortController()
  #boots = 1n
  #journal = 1n
  #acknowledgedUpTo = 0n
  /** The newest link of the record of events that it was shown. */
  head: AuditHead | undefined
  #running: Promise<void> = Promise.resolve()

  constructor(host: string, machine: RawMachine) {
    this.host = host
    this.machine = machine
  }

  start(): void {
    this.#running = this.#run()
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop
    while (!signal.aborted) {
      if (!this.silent) await this.#session().catch(() => {}) // the coordinator is away: it comes back
      await pause(100, signal)
    }
  }

  async #session(): Promise<void> {
    const { signal } = this.#stop
    await using session = await this.machine.session({
      bootCount: this.#boots,
      journalSequence: this.#journal,
      highestRevision: this.highestRevision,
      highestDigest: this.highestDigest,
      acknowledged: this.#acknowledgedUpTo,
      ...(this.head && { auditHead: this.head }),
      untold: [...this.#reports.keys()]
        .filter(id => !this.#acknowledged.has(id))
        .map(operationId => ({ operationId, accepted: timestampFromMs(this.#takenAtMs(operationId)) })),
      allowed: ['apply', 'rollback', 'reboot'],
    })
    let seen = 0
    let beat = 0
    let told = new Set<string>()
    while (!signal.aborted && session.end === undefined && !this.silent) {
      for (; seen < session.received.length; seen++) {
        const { message } = session.received[seen] ?? {}
        if (message?.case === 'order') this.#take(message.value)
        if (message?.case === 'probe' && message.value.kind === 'gates') this.#answer(session, message.value)
        if (message?.case === 'welcome') this.#tellAgain(message.value)
        if (message?.case === 'operationAck') this.#hearAcknowledged(message.value)
        if (message?.case === 'auditHead' && message.value.id > (this.head?.id ?? 0n))
          this.head = message.value
      }
      for (const [id, report] of this.#reports) {
        const key = `${id} ${report.outcome ? 'ended' : 'began'}`
        if (this.#acknowledged.has(id) || told.has(key)) continue
        told.add(key)
        session.send({ message: { case: 'operation', value: report } })
      }
      if (Date.now() - beat > 500) {
        beat = Date.now()
        // What was not acknowledged is told again.
        told = new Set()
        beatOf(session)
      }
      await pause(LOOK_MS, signal)
    }
  }

  /** What a coordinator asks for, it is told again, whatever it had acknowledged. */
  #tellAgain({ openOperations, tellAll }: Welcome): void {
    for (const id of tellAll ? this.#reports.keys() : openOperations) this.#acknowledged.delete(id)
  }

  #hearAcknowledged({ operationId, sequence, outcome }: OperationAck): void {
    if (sequence > this.#acknowledgedUpTo) this.#acknowledgedUpTo = sequence
    if (outcome) this.#acknowledged.add(operationId)
  }

  #takenAtMs(operation: string): number {
    return this.taken.find(taken => taken.operation === operation)?.atMs ?? 0
  }

  #answer(session: RawSession, { probeId }: Probe): void {
    this.asked += 1
    if (this.gates === undefined) return
    const gates = this.gates.map((verdict, at) => ({ name: `g${at}`, verdict, reason: 'as it is played' }))
    const value = { probeId, json: JSON.stringify({ gates }), error: '' }
    session.send({ message: { case: 'probeAnswer', value } })
  }

  #take(order: Order): void {
    const { operationId, revision } = order
    if (this.#reports.has(operationId)) return
    const isPlan = order.action.case === 'apply' && order.action.value.planOnly
    const action = isPlan ? 'plan' : (order.action.case ?? 'apply')
    this.taken.push({ operation: operationId, action, revision: Number(revision), atMs: Date.now() })
    const report = (outcome?: OutcomeClass) =>
      create(OperationReportSchema, {
        operationId,
        revision,
        manifestDigest: order.manifestDigest,
        host: this.host,
        action,
        ...(order.rollout && { rollout: order.rollout }),
        phases: [{ sequence: this.#journal, phase: outcome ? Phase.DONE : Phase.VERIFY }],
        ...(outcome && { outcome: { class: outcome, phase: Phase.DONE, reason: 'as it is played' } }),
      })
    this.#journal += 1n
    this.#reports.set(operationId, report())
    const ends = isPlan ? OutcomeClass.SUCCEEDED : this.outcome
    if (!isPlan) this.moving = true
    void pause(isPlan ? 10 : CHANGE_MS, this.#stop.signal).then(() => {
      if (!isPlan) {
        this.moving = false
        this.endedMs = Date.now()
      }
      if (action === 'apply' && ends === OutcomeClass.SUCCEEDED && revision > this.highestRevision) {
        this.highestRevision = revision
        this.highestDigest = order.manifestDigest
      }
      this.#reports.set(operationId, report(ends))
    })
  }

  /** When its first change was ordered; 0: none was. */
  get movedAtMs(): number {
    return this.taken.find(({ action }) => action !== 'plan')?.atMs ?? 0
  }

  /** Everything that it has to tell was acknowledged to its end. */
  get hasTold(): boolean {
    return [...this.#reports.keys()].every(id => this.#acknowledged.has(id))
  }

  /** Changes that were ordered, by revision. */
  changes(): readonly string[] {
    return this.taken
      .filter(({ action }) => action !== 'plan')
      .map(({ action, revision }) => `${action} ${revision}`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort()
    await this.#running
  }
}

function beatOf(session: RawSession): void {
  session.beat()
}
