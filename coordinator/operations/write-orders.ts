import type { Transaction } from 'kysely'
import { operationId } from '../../shared/ids.ts'
import { hasForeignSystem } from '../../shared/revision/foreign-system.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import { heldBecause, type MachineEntry } from '../machines/entry.ts'
import { recordEvent } from '../store/events.ts'
import {
  insertOperations,
  type NewOperationRow,
  type OperationRow,
  openOperations,
  pastOperations,
} from '../store/operations.ts'
import { findRequest, insertRequest, type KnownRequest } from '../store/requests.ts'
import { newestRevision, type StoredRevision } from '../store/revisions.ts'
import type { Database } from '../store/tables.ts'
import { judgeOrders, type OpenOrder, type OrderCandidate, type OrdersVerdict } from './judge-orders.ts'
import { moveOperation, stateOf } from './move-operation.ts'
import { actionColumns, type WantedAction } from './order-action.ts'
import type { PastOperation } from './reached-revision.ts'
import { transition } from './transition.ts'
import { whatWasOrdered } from './what-was-ordered.ts'

/** Operations of one machine that a rollback looks back over. */
const MAX_HISTORY = 200

export interface NewOrders {
  readonly requestId: string
  readonly intent: string
  readonly action: WantedAction
  readonly machines: readonly { readonly ref: string; readonly entry: MachineEntry }[]
  /** With what goes to a revision. */
  readonly revision: StoredRevision | undefined
  readonly actor: string
  readonly lifetimeMs: number
  /** The machine that the coordinator itself runs on; undefined: none of these, or not known. */
  readonly ownMachine: string | undefined
  /** Where a backup was made for the operation with this id. */
  readonly backup?: { readonly operation: string; readonly path: string } | undefined
}

export type WrittenOrders =
  | { readonly kind: 'known'; readonly request: KnownRequest }
  | { readonly kind: 'refused'; readonly problems: readonly string[] }
  | {
      readonly kind: 'ordered'
      readonly operations: readonly string[]
      readonly machines: readonly string[]
      /** Operations that ended meanwhile, for the feed. */
      readonly ended: readonly string[]
    }

/** Judges and writes orders in the caller's transaction: for all machines, or for none. */
export async function writeOrders(
  tx: Transaction<Database>,
  directory: MachineDirectory,
  orders: NewOrders,
  now: Date,
): Promise<WrittenOrders> {
  const known = await findRequest(tx, orders.requestId)
  if (known) return { kind: 'known', request: known }
  const { verdict, ended, open } = await judgeIn(tx, directory, orders, now)
  if (verdict.kind === 'refused') return verdict
  const rows: NewOperationRow[] = []
  const operations: string[] = []
  const superseded: string[] = []
  for (const decision of verdict.decisions) {
    if (decision.kind === 'running') {
      operations.push(decision.operation)
      continue
    }
    const id = rows.length === 0 && orders.backup ? orders.backup.operation : operationId(now)
    operations.push(id)
    for (const old of decision.supersedes) {
      const row = open.get(old)
      const reason = `an operator ordered something else: operation ${id}`
      if (row) await moveOperation(tx, row, { kind: 'superseded', reason }, undefined, now)
      superseded.push(old)
    }
    rows.push({
      id,
      machine: decision.machine,
      host: decision.host,
      revision: decision.revision,
      manifest_digest: orders.revision?.manifest.digest ?? '',
      ordered: now.getTime(),
      ordered_by: orders.actor,
      expires: now.getTime() + orders.lifetimeMs,
      delivered: null,
      phase: 0,
      outcome: null,
      outcome_class: 0,
      ended: null,
      ...actionColumns(decision.action),
    })
  }
  await insertOperations(tx, rows)
  await insertRequest(tx, orders.requestId, { intent: orders.intent, operations }, now)
  for (const row of rows) await recordOrdered(tx, row, orders, now)
  return {
    kind: 'ordered',
    operations,
    machines: verdict.decisions.map(({ machine }) => machine),
    ended: [...ended, ...superseded],
  }
}

async function recordOrdered(
  tx: Transaction<Database>,
  row: NewOperationRow,
  { actor, backup }: NewOrders,
  now: Date,
): Promise<void> {
  const what = whatWasOrdered({
    action: row.action ?? 'apply',
    revision: row.revision,
    rollback_to: row.rollback_to ?? '',
    rollback_before: row.rollback_before ?? 0,
  })
  const saved = backup ? `; the coordinator was backed up to ${backup.path} before` : ''
  await recordEvent(tx, {
    at: now,
    class: 'ordered',
    machine: row.machine,
    host: row.host,
    reason: `operation ${row.id}: ${what}${saved}`,
    actor,
  })
}

/** The verdict over orders as things stand in this transaction; ends what the clock has ended on the way. */
export async function judgeIn(
  tx: Transaction<Database>,
  directory: MachineDirectory,
  orders: NewOrders,
  now: Date,
): Promise<{
  readonly verdict: OrdersVerdict
  readonly ended: readonly string[]
  readonly open: ReadonlyMap<string, OperationRow>
}> {
  const { action, revision } = orders
  const ids = orders.machines.map(({ entry }) => entry.id)
  const { open, ended } = await openAndEnded(tx, ids, now)
  const newest = await newestRevision(tx)
  const candidates: OrderCandidate[] = []
  for (const { ref, entry } of orders.machines) {
    // Read from memory here, after all waiting: what an operator did meanwhile counts.
    const current = directory.get(entry.id) ?? entry
    candidates.push({
      ref,
      machine: entry.id,
      state: current.state,
      held: heldBecause(current)?.class,
      onHold: current.onHold?.reason,
      assignment: directory.assignment(entry.id),
      allowed: current.allowed,
      open: (open.get(entry.id) ?? []).map(openOrder),
      history: action.word === 'rollback' ? await historyOf(tx, entry.id) : [],
      foreign: foreignCluster(directory, entry.id, revision?.manifest.number),
      isOwnHost: entry.id === orders.ownMachine,
    })
  }
  const verdict = judgeOrders(
    {
      action,
      target: revision && {
        revision: revision.manifest.number,
        expires: revision.manifest.expires,
        hosts: new Set(revision.manifest.hosts.keys()),
        groups: new Set(revision.manifest.groups.keys()),
      },
      floor: newest?.manifest.floor ?? 0,
    },
    candidates,
    now,
  )
  return { verdict, ended, open: new Map([...open.values()].flat().map(row => [row.id, row])) }
}

async function historyOf(tx: Transaction<Database>, machine: string): Promise<PastOperation[]> {
  return (await pastOperations(tx, machine, MAX_HISTORY)).map(row => ({
    id: row.id,
    action: row.action,
    revision: row.revision,
    outcomeClass: row.outcome_class,
    phase: row.phase,
    rollbackTo: row.rollback_to,
    rollbackBefore: row.rollback_before === 1,
  }))
}

function openOrder(row: OperationRow): OpenOrder {
  return {
    id: row.id,
    action: row.action,
    revision: row.revision,
    rollbackTo: row.rollback_to,
    rollbackBefore: row.rollback_before === 1,
    waitingRetry: row.retry_of !== '' && row.delivered === null && row.phase === 0,
  }
}

/** The open operations of machines, after ending those that the clock has ended. */
async function openAndEnded(tx: Transaction<Database>, machines: readonly string[], now: Date) {
  const open = new Map<string, OperationRow[]>()
  const ended: string[] = []
  for (const row of await openOperations(tx, machines)) {
    if (transition(stateOf(row), { kind: 'clock' }, now.getTime()).kind === 'next') {
      await moveOperation(tx, row, { kind: 'clock' }, undefined, now)
      ended.push(row.id)
      continue
    }
    const list = open.get(row.machine)
    if (list) list.push(row)
    else open.set(row.machine, [row])
  }
  return { open, ended }
}

/** The cluster of a host whose system is somebody else's; of the newest revision alone the targets are in memory. */
function foreignCluster(
  directory: MachineDirectory,
  machine: string,
  revision: number | undefined,
): string | undefined {
  if (directory.targets.revision !== revision) return undefined
  const assignment = directory.assignment(machine)
  const target = assignment.kind === 'host' ? directory.targets.hosts.get(assignment.host) : undefined
  return target && hasForeignSystem(target) ? target.cluster : undefined
}
