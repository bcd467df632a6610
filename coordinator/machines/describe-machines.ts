import type { MessageInitShape } from '@bufbuild/protobuf'
import { timestampFromDate, timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { Kysely } from 'kysely'
import type { Clock } from '../../shared/clock.ts'
import { BoundBy, type MachineSchema, MachineState } from '../../shared/gen/muster/v1/machine_pb.ts'
import { notFound } from '../../shared/rpc/rpc-error.ts'
import type { BoundBy as BoundByWord } from '../enrolment/assign.ts'
import { summarise } from '../operations/describe-operation.ts'
import type { Sessions } from '../sessions/sessions.ts'
import { readLabels, readTexts } from '../store/json.ts'
import { findMachine, type MachineRow } from '../store/machines.ts'
import type { OperationRow } from '../store/operations.ts'
import type { Store } from '../store/store.ts'
import type { Database } from '../store/tables.ts'
import type { MachineDirectory } from './directory.ts'
import { entryOf, type MachineState as StateWord } from './entry.ts'
import { labelsOf } from './labels.ts'
import { latestOperations } from './latest-operations.ts'
import { type ConditionSettings, showConditions } from './show-conditions.ts'

export interface DescribeDeps {
  readonly store: Store
  readonly directory: MachineDirectory
  readonly sessions: Pick<Sessions, 'online' | 'lastMessage'>
  readonly clock: Clock
  readonly conditions: ConditionSettings
}

export type MachineInit = MessageInitShape<typeof MachineSchema>

export const STATE_NUMBERS: Readonly<Record<StateWord, MachineState>> = {
  pending: MachineState.PENDING,
  enrolled: MachineState.ENROLLED,
  active: MachineState.ACTIVE,
  rejected: MachineState.REJECTED,
  evicted: MachineState.EVICTED,
  banned: MachineState.BANNED,
}

const BOUND_BY: Readonly<Record<BoundByWord, BoundBy>> = {
  key: BoundBy.KEY,
  hardware: BoundBy.HARDWARE,
  rule: BoundBy.RULE,
  hand: BoundBy.HAND,
}

/** Machines as operators are shown them, in the order of the rows; at most 500 at a time. */
export async function describeMachines(
  deps: DescribeDeps,
  db: Kysely<Database>,
  rows: readonly MachineRow[],
): Promise<MachineInit[]> {
  const operations = await latestOperations(
    db,
    rows.map(row => row.id),
  )
  const nowMs = deps.clock.now().getTime()
  return rows.map(row => describe(deps, row, operations.get(row.id), nowMs))
}

/** One machine, read afresh. */
export async function describeMachine(deps: DescribeDeps, id: string): Promise<MachineInit> {
  const { db } = deps.store
  const row = await findMachine(db, id)
  const [machine] = row ? await describeMachines(deps, db, [row]) : []
  if (!machine) throw notFound(`ref: there is no machine ${id}`)
  return machine
}

function describe(
  { directory, sessions, conditions }: DescribeDeps,
  row: MachineRow,
  operation: OperationRow | undefined,
  nowMs: number,
): MachineInit {
  const entry = directory.get(row.id) ?? entryOf(row, [])
  const assignment = directory.assignment(row.id)
  const proposal = directory.proposal(row.id)
  const lastMessage = sessions.lastMessage(row.id)
  return {
    id: row.id,
    state: STATE_NUMBERS[entry.state],
    ...(assignment.kind === 'host' && {
      host: assignment.host,
      group: assignment.group,
      boundBy: BOUND_BY[assignment.boundBy],
    }),
    // Computed at the moment of asking; a stored "online" would outlive the connection.
    online: sessions.online(row.id),
    lastSeen: lastMessage ? timestampFromDate(lastMessage) : timestampFromMs(row.last_seen),
    firstSeen: timestampFromMs(row.first_seen),
    labels: labelsOf(directory, row.id, readLabels(row.labels)),
    conditions: showConditions(entry, assignment, directory.alike(entry), proposal, conditions, nowMs).map(
      ({ class: kind, reason, sinceMs }) => ({ class: kind, reason, since: timestampFromMs(sinceMs) }),
    ),
    agentVersion: row.agent_version,
    ...(row.certificate_not_after !== null && {
      certificateExpires: timestampFromMs(row.certificate_not_after),
    }),
    trust: {
      number: BigInt(row.trust_number),
      digest: row.trust_digest,
      firstUse: row.trust_first_use === 1,
    },
    highestRevision: BigInt(row.highest_revision),
    appliedRevision: BigInt(row.applied_revision),
    ...(operation && { lastOperation: summarise(operation) }),
    simulated: row.simulated === 1,
    address: row.address,
    admittedBy: row.admitted_by,
    product: row.product,
    serial: row.serial,
    rebootReasons: [...readTexts(row.reboot_reasons)],
    ...(row.held_since !== null && {
      held: { reason: row.held_reason, since: timestampFromMs(row.held_since) },
    }),
    quarantined: row.quarantined,
    actedAs: proposal.kind === 'host' ? proposal.host : '',
  }
}
