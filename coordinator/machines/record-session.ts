import { cutText } from '../../shared/cut-text.ts'
import type { AgentEvent, TrustReport } from '../../shared/gen/muster/v1/agent_pb.ts'
import { isDigest } from '../../shared/ids.ts'
import { invalid } from '../../shared/rpc/rpc-error.ts'
import { setCondition } from '../store/conditions.ts'
import { recordClaim, recordEvent } from '../store/events.ts'
import { bumpMachine, changeMachine, findMachine, touchMachines } from '../store/machines.ts'
import type { SessionDeps } from './admit-session.ts'
import { MachineThrottles } from './machine-throttles.ts'
import { refreshMachines } from './refresh.ts'

/** Writes when machines were last heard of: a few statements for a whole batch. */
export async function recordLastSeen(
  { store }: Pick<SessionDeps, 'store'>,
  batch: ReadonlyMap<string, Date>,
): Promise<void> {
  await store.transact(tx => touchMachines(tx, batch))
}

/** Records that two live holders of one key were found: the machine is not acted on until a person released it. */
export async function recordClone(
  { store, directory, clock }: SessionDeps,
  machineId: string,
  reason: string,
): Promise<void> {
  const now = clock.now()
  await store.transact(async tx => {
    await setCondition(tx, { machine: machineId, class: 'clone', reason, since: now.getTime() })
    await bumpMachine(tx, machineId)
    await recordClaim(tx, { at: now, class: 'clone', machine: machineId, reason, actor: 'coordinator' })
  })
  await refreshMachines(store.db, directory, [machineId])
}

/** Records which trust set a machine follows. */
export async function recordTrustReport(
  { store, directory, clock }: SessionDeps,
  machineId: string,
  report: TrustReport,
): Promise<void> {
  if (report.digest !== '' && !isDigest(report.digest)) throw invalid('trust.digest: not a SHA-256')
  const number = Number(report.number)
  if (!Number.isSafeInteger(number)) throw invalid('trust.number: larger than any that can be')
  const known = directory.get(machineId)
  if (
    known?.trustNumber === number &&
    known.trustDigest === report.digest &&
    known.trustFirstUse === report.firstUse
  ) {
    return
  }
  await store.transact(async tx => {
    const row = await findMachine(tx, machineId)
    if (!row) return
    await changeMachine(tx, row, {
      trust_number: number,
      trust_digest: report.digest,
      trust_first_use: report.firstUse ? 1 : 0,
    })
    const reason = `follows trust set ${number}${report.firstUse ? ', taken without a pin' : ''}`
    await recordClaim(tx, { at: clock.now(), class: 'trust', machine: machineId, reason, actor: machineId })
  })
  await refreshMachines(store.db, directory, [machineId])
}

/** Events of one machine that are kept: so many a second, and so many at once. */
const EVENTS_PER_SECOND = 0.2
const EVENTS_BURST = 20
const MAX_CLASS_CHARS = 64
const MAX_REASON_CHARS = 4_096

/** Keeps what agents want an operator to see; a machine that says too much is not heard for a while. */
export class AgentEvents {
  readonly #deps: SessionDeps
  readonly #throttles = new MachineThrottles(EVENTS_PER_SECOND, EVENTS_BURST)

  constructor(deps: SessionDeps) {
    this.#deps = deps
  }

  /** False: dropped, since the machine says too much. */
  async record(machineId: string, event: AgentEvent): Promise<boolean> {
    const { store, clock } = this.#deps
    const now = clock.now()
    if (this.#throttles.take(machineId, now.getTime()) > 0) return false
    const kind = /^[a-z0-9-]+$/.test(event.class) ? event.class.slice(0, MAX_CLASS_CHARS) : 'agent'
    await store.transact(tx =>
      recordEvent(tx, {
        at: now,
        class: kind,
        machine: machineId,
        reason: cutText(event.reason, MAX_REASON_CHARS),
        actor: machineId,
      }),
    )
    return true
  }
}
