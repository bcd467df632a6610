import type { MessageInitShape } from '@bufbuild/protobuf'
import { create } from '@bufbuild/protobuf'
import { timestampMs } from '@bufbuild/protobuf/wkt'
import type { Transaction } from 'kysely'
import { cutText } from '../../shared/cut-text.ts'
import type { OperationAckSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import {
  type OperationReport,
  type Outcome,
  OutcomeClass,
  OutcomeSchema,
  Phase,
  type PhaseRecord,
  PhaseRecordSchema,
} from '../../shared/gen/muster/v1/operation_pb.ts'
import { isDigest } from '../../shared/ids.ts'
import { isHostName } from '../../shared/revision/host-name.ts'
import { denied, invalid } from '../../shared/rpc/rpc-error.ts'
import { reachedSystem } from '../../shared/system-change.ts'
import { recordClaim } from '../store/events.ts'
import { noteAcknowledged } from '../store/machines.ts'
import {
  annotateOperation,
  countUnordered,
  findOperation,
  insertOperations,
  type OperationRow,
  phasesOf,
  putPhases,
  setAppliedRevision,
  setHighestRevision,
  UNKNOWN_ORDERER,
} from '../store/operations.ts'
import { recordSeldom } from '../store/seldom.ts'
import type { Database } from '../store/tables.ts'
import { annotations } from './annotations.ts'
import { moveOperation } from './move-operation.ts'
import type { RolloutClaim } from './node-claims.ts'
import { ACTIONS } from './order-action.ts'
import type { OrderDeps } from './orders.ts'
import { readSignature } from './read-signature.ts'

type Ack = MessageInitShape<typeof OperationAckSchema>

const MAX_PHASES = 256
const MAX_TEXT_CHARS = 4 * 1024
/** Operations a machine may tell of that nobody ordered here. */
const MAX_UNORDERED = 100
const LAST_PHASE = Math.max(...Object.values(Phase))

/**
 * Takes down what a node says of one of its operations. Idempotent: a report carries the operation's whole state. The
 * outcome is written once; the answer tells the node what it need not send again.
 */
export async function recordReport(
  deps: OrderDeps,
  machine: string,
  report: OperationReport,
  /** Of the agent whose session it came over; empty: not known. */
  instance = '',
): Promise<Ack> {
  const { store, clock, operationFeed } = deps
  const { id, phases, outcome } = readReport(report)
  const now = clock.now()
  const result = await store.transact(async tx => {
    const known = await findOperation(tx, id)
    if (known && known.machine !== machine) {
      const reason = `reported operation ${id} of ${known.machine}`
      await recordSeldom(tx, 'foreign-operation', machine, now, reason)
      return 'foreign'
    }
    const row = known ?? (await adopt(tx, machine, report, now))
    const rollout = known ? undefined : rolloutOf(report)
    if (row && rollout) {
      const action = row.action ?? 'apply'
      await deps.nodes?.sawOrder(tx, { rollout, machine, operation: id, action, startedMs: row.ordered })
    }
    if (!row) {
      const sequence = newestOf(phases)
      await noteAcknowledged(tx, machine, sequence)
      return { adopted: false, sequence, outcome: outcome !== undefined }
    }
    const merged = mergePhases((await phasesOf(tx, [id])).get(id) ?? [], phases)
    await putPhases(tx, id, merged.changed)
    await noteAcknowledged(tx, machine, merged.newest)
    await annotateOperation(tx, id, annotations(row, report, phases, instance))
    const phase = Math.max(outcome?.phase ?? 0, ...phases.map(record => record.phase))
    const input = { kind: 'report', phase, outcomeClass: outcome?.class ?? 0 } as const
    const signed = outcome && row.outcome_class === 0 ? await readSignature(tx, row, report, now) : undefined
    const moved = await moveOperation(tx, row, input, outcome, now, signed)
    await noteLateOutcome(tx, row, moved, outcome, now)
    await followNode(tx, row, report, outcome, phases)
    const endedNow = moved.kind === 'next' && moved.state.outcomeClass !== 0
    return {
      adopted: known === undefined,
      sequence: merged.newest,
      outcome: (row.outcome_class !== 0 || endedNow) && outcome !== undefined,
    }
  })
  if (result === 'foreign') throw denied(`operation ${id}: belongs to another machine`)
  if (result.adopted) {
    deps.nodes?.sawOperation(machine, {
      id,
      what: whatWasReported(report),
      startedMs: startOf(report, now.getTime()),
    })
    const claim = rolloutOf(report)
    if (claim) deps.nodes?.sawRollout(machine, claim)
  }
  operationFeed.notify(id)
  return { operationId: id, sequence: BigInt(result.sequence), outcome: result.outcome }
}

/** For people: "apply to revision 7". */
function whatWasReported({ action, revision }: OperationReport): string {
  const word = ACTIONS.find(known => known === action) ?? 'apply'
  return revision > 0n ? `${word} to revision ${revision}` : word
}

/** The rollout by which the operation was given, as far as what is said of it can be one. */
function rolloutOf({ rollout }: OperationReport): RolloutClaim | undefined {
  if (!rollout || !/^[A-Za-z0-9._-]{1,64}$/.test(rollout.id) || !/^[a-z-]{1,16}$/.test(rollout.action)) {
    return undefined
  }
  const { id, action } = rollout
  const host = isHostName(rollout.host) ? rollout.host : ''
  return { id, action, revision: Number(BigInt.asUintN(53, rollout.revision)), host }
}

/** What a node runs after this, as far as its report says so. It will say more itself at its next Hello. */
async function followNode(
  tx: Transaction<Database>,
  row: OperationRow,
  report: OperationReport,
  outcome: Outcome | undefined,
  phases: readonly PhaseRecord[],
): Promise<void> {
  const { action } = row
  const phase = Math.max(outcome?.phase ?? 0, ...phases.map(record => record.phase))
  const reached = outcome !== undefined && reachedSystem({ action, outcomeClass: outcome.class, phase })
  if (action === 'rollback' && reached) await setAppliedRevision(tx, row)
  if (action !== 'apply' || BigInt(row.revision) !== report.revision) return
  if (reached) await setAppliedRevision(tx, row)
  // Past the first phase the node has the revision on record as accepted.
  if (phases.some(record => record.phase > Phase.VERIFY)) {
    const accepted = { revision: row.revision, manifestDigest: row.manifest_digest }
    await setHighestRevision(tx, row.machine, accepted)
  }
}

interface ReadReport {
  readonly id: string
  readonly phases: readonly PhaseRecord[]
  readonly outcome: Outcome | undefined
}

/** Checks and bounds what a machine sent. Its texts are cut, not refused: the outcome matters more than its words. */
function readReport(report: OperationReport): ReadReport {
  const { operationId: id, phases, outcome } = report
  if (!/^[A-Za-z0-9._-]{1,64}$/.test(id)) {
    throw invalid('operation_id: must be 1 to 64 letters, digits, dots, dashes or underscores')
  }
  if (phases.length > MAX_PHASES) {
    throw invalid(`phases: ${phases.length}, at most ${MAX_PHASES} are allowed`)
  }
  for (const { sequence, phase } of phases) {
    if (sequence < 1n || sequence > BigInt(Number.MAX_SAFE_INTEGER)) {
      throw invalid('phases sequence: must be at least 1')
    }
    if (phase < 1 || phase > LAST_PHASE) throw invalid(`phases phase: ${phase} is none`)
  }
  if (outcome && (outcome.class < 1 || outcome.class > OutcomeClass.UNKNOWN)) {
    throw invalid(`outcome class: ${outcome.class} is none`)
  }
  return {
    id,
    phases: phases.map(record =>
      create(PhaseRecordSchema, { ...record, detail: cutText(record.detail, MAX_TEXT_CHARS) }),
    ),
    outcome:
      outcome &&
      create(OutcomeSchema, {
        ...outcome,
        reason: cutText(outcome.reason, MAX_TEXT_CHARS),
        refusal: cutText(outcome.refusal, 64),
        storePath: outcome.storePath.slice(0, MAX_TEXT_CHARS),
        simulated: outcome.simulated.slice(0, 64).map(text => cutText(text, 256)),
        runs: cutText(outcome.runs, MAX_TEXT_CHARS),
      }),
  }
}

/** Phases as they stand after a report, and those to write. A phase that ended stays as it ended. */
export function mergePhases(
  stored: readonly PhaseRecord[],
  reported: readonly PhaseRecord[],
): { readonly changed: readonly PhaseRecord[]; readonly newest: number } {
  const bySequence = new Map(stored.map(record => [record.sequence, record]))
  const changed: PhaseRecord[] = []
  for (const record of reported) {
    const known = bySequence.get(record.sequence)
    if (known && (known.ended || !record.ended)) continue
    if (!known && bySequence.size >= MAX_PHASES) continue
    bySequence.set(record.sequence, record)
    changed.push(record)
  }
  return { changed, newest: newestOf([...stored, ...reported]) }
}

function newestOf(records: readonly PhaseRecord[]): number {
  return records.reduce((most, { sequence }) => Math.max(most, Number(sequence)), 0)
}

/**
 * Takes in an operation that only its node knows: this store is older than the order, for instance after a restore. Says
 * undefined when the machine has told of too many.
 */
async function adopt(
  tx: Transaction<Database>,
  machine: string,
  report: OperationReport,
  now: Date,
): Promise<OperationRow | undefined> {
  const id = report.operationId
  if ((await countUnordered(tx, machine)) >= MAX_UNORDERED) {
    await recordSeldom(
      tx,
      'unknown-operation',
      machine,
      now,
      `reported operation ${id}, and ${MAX_UNORDERED} others, that nobody ordered here; it is not kept`,
    )
    return undefined
  }
  await insertOperations(tx, [
    {
      id,
      machine,
      host: isHostName(report.host) ? report.host : '',
      revision: Number(BigInt.asUintN(53, report.revision)),
      manifest_digest: isDigest(report.manifestDigest) ? report.manifestDigest : '',
      ordered: startOf(report, now.getTime()),
      ordered_by: UNKNOWN_ORDERER,
      expires: now.getTime(),
      delivered: now.getTime(),
      phase: 0,
      outcome: null,
      outcome_class: 0,
      ended: null,
      action: ACTIONS.find(word => word === report.action) ?? 'apply',
    },
  ])
  await recordClaim(tx, {
    at: now,
    class: 'unknown-operation',
    machine,
    reason: `reported operation ${id} to revision ${report.revision}, which nobody ordered here; was an older copy of the store restored?`,
    actor: machine,
  })
  return await findOperation(tx, id)
}

/** When it began. A node's clock may be ahead; nothing was ordered in the future. */
function startOf({ phases }: OperationReport, nowMs: number): number {
  return Math.max(
    0,
    Math.min(nowMs, ...phases.map(({ started }) => (started ? timestampMs(started) : nowMs))),
  )
}

/** A node that tells of another end than the one on record: the record stays, and people are shown both. */
async function noteLateOutcome(
  tx: Transaction<Database>,
  row: OperationRow,
  moved: Awaited<ReturnType<typeof moveOperation>>,
  outcome: Outcome | undefined,
  now: Date,
): Promise<void> {
  if (!outcome) return
  const final = moved.kind === 'same' ? row.outcome_class : moved.state.outcomeClass
  if (final === outcome.class || final === 0) return
  await recordSeldom(
    tx,
    'late-report',
    row.machine,
    now,
    `operation ${row.id} ended as ${final} here before the machine reported ${outcome.class}: ${outcome.reason}`,
  )
}
