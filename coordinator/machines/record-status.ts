import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import type { Kysely } from 'kysely'
import { cutText } from '../../shared/cut-text.ts'
import {
  GenerationSchema,
  HeldSchema,
  type NodeStatus,
  NodeStatusSchema,
  QuarantinedSchema,
} from '../../shared/gen/muster/v1/agent_pb.ts'
import { millisOf } from '../../shared/time.ts'
import { recordClaim } from '../store/events.ts'
import { changeMachine, findMachine, type MachineRow } from '../store/machines.ts'
import type { Database } from '../store/tables.ts'
import type { SessionDeps } from './admit-session.ts'
import { refreshMachines } from './refresh.ts'

const MAX_LIST = 100
const MAX_FAILED_UNITS = 200
const MAX_TEXT_CHARS = 1_024
const MAX_REASON_CHARS = 256

/** Keeps what a node holds on to when it is other than before; an equal one costs no write. */
export async function recordStatus(
  { store, directory, clock }: SessionDeps,
  machineId: string,
  said: NodeStatus,
): Promise<void> {
  const now = clock.now()
  const status = bounded(said)
  const bytes = Buffer.from(toBinary(NodeStatusSchema, status))
  const changed = await store.transact(async tx => {
    const row = await findMachine(tx, machineId)
    if (!row || row.node_status?.equals(bytes)) return false
    // A node's clock may be ahead; nothing was held in the future.
    const since = millisOf(status.held?.since) ?? now.getTime()
    await changeMachine(tx, row, {
      node_status: bytes,
      held_reason: status.held?.reason ?? '',
      held_since: status.held ? Math.max(0, Math.min(since, now.getTime())) : null,
      quarantined: status.quarantined.length,
    })
    for (const event of eventsOf(row, status)) {
      await recordClaim(tx, { ...event, at: now, machine: machineId, actor: machineId })
    }
    return true
  })
  if (changed) await refreshMachines(store.db, directory, [machineId])
}

/** The status a machine last told; undefined: none yet. */
export async function readNodeStatus(db: Kysely<Database>, id: string): Promise<NodeStatus | undefined> {
  const bytes = (await findMachine(db, id))?.node_status
  return bytes ? fromBinary(NodeStatusSchema, bytes) : undefined
}

/** Checks and bounds what a machine sent. Texts are cut, not refused: that it is held matters more than why. */
function bounded(said: NodeStatus): NodeStatus {
  return create(NodeStatusSchema, {
    ...(said.held && {
      held: create(HeldSchema, { ...said.held, reason: cutText(said.held.reason, MAX_REASON_CHARS) }),
    }),
    quarantined: said.quarantined.slice(0, MAX_LIST).map(one =>
      create(QuarantinedSchema, {
        ...one,
        storePath: one.storePath.slice(0, MAX_TEXT_CHARS),
        reason: cutText(one.reason, MAX_TEXT_CHARS),
        operationId: one.operationId.slice(0, 64),
      }),
    ),
    program: said.program.slice(0, MAX_TEXT_CHARS),
    bootLoader: said.bootLoader.slice(0, 64),
    oneShotBoot: said.oneShotBoot,
    currentSystem: said.currentSystem.slice(0, MAX_TEXT_CHARS),
    failedUnits: said.failedUnits.slice(0, MAX_FAILED_UNITS).map(name => cutText(name, 256)),
    unitsRead: said.unitsRead,
    generations: said.generations
      .slice(0, MAX_LIST)
      .map(one => create(GenerationSchema, { ...one, storePath: one.storePath.slice(0, MAX_TEXT_CHARS) })),
  })
}

function eventsOf(row: MachineRow, { held, quarantined }: NodeStatus): { class: string; reason: string }[] {
  const events: { class: string; reason: string }[] = []
  if (held && row.held_since === null) {
    events.push({ class: 'held', reason: `obeys nothing from here on: ${held.reason}` })
  }
  if (!held && row.held_since !== null) events.push({ class: 'resumed', reason: 'obeys again' })
  const [newest] = quarantined
  if (newest && quarantined.length > row.quarantined) {
    events.push({ class: 'quarantined', reason: `${newest.storePath} is not tried again: ${newest.reason}` })
  }
  if (quarantined.length < row.quarantined) {
    const reason = `of ${row.quarantined} quarantined systems ${quarantined.length || 'none'} remain`
    events.push({ class: 'quarantine-lifted', reason })
  }
  return events
}
