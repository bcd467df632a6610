import type { MessageInitShape } from '@bufbuild/protobuf'
import { exists, invalid, precondition } from '../../shared/errors.ts'
import type { GiveOrdersRequest, GiveOrdersResponseSchema } from '../../shared/gen/muster/v1/operator_pb.ts'
import { operationId, sha256Hex } from '../../shared/ids.ts'
import type { Logger } from '../../shared/log.ts'
import type { OwnHostBackup } from '../backup/own-host-backup.ts'
import type { OwnHost } from '../machines/own-host.ts'
import type { ChangeFeed } from '../operations/change-feed.ts'
import { describeOperations } from '../operations/describe-operation.ts'
import { isChange, readAction, type WantedAction } from '../operations/order-action.ts'
import { ORDER_LIFETIME_MS } from '../operations/try-again.ts'
import { judgeIn, type NewOrders, writeOrders } from '../operations/write-orders.ts'
import type { FleetQueryDeps } from '../queries/evaluate-fleet.ts'
import type { SelectionError } from '../queries/select-machines.ts'
import { requireRevision } from '../revisions/describe-revision.ts'
import type { Sessions } from '../sessions/sessions.ts'
import { findOperations } from '../store/operations.ts'
import { findRequest, type KnownRequest } from '../store/requests.ts'
import { isUniqueViolation } from '../store/store.ts'
import { actorOf, type Caller } from './caller.ts'
import { listProblems } from './list-problems.ts'
import { selectForOrder } from './select-for-order.ts'

const MAX_REFS = 10_000
const MAX_REQUEST_ID_CHARS = 64

export interface GiveOrdersDeps extends FleetQueryDeps {
  readonly sessions: FleetQueryDeps['sessions'] & Pick<Sessions, 'wake'>
  readonly operationFeed: ChangeFeed
  readonly log: Logger
  /** Which machine the coordinator runs on. */
  readonly ownHost: OwnHost
  /** Copies the coordinator before its own host moves. */
  readonly ownHostBackup: OwnHostBackup
  /** How long an order may wait for its machine; absent: one hour. */
  readonly orderLifetimeMs?: number
}

type Response = MessageInitShape<typeof GiveOrdersResponseSchema>

/** Gives machines an order: all that are named, or none and every reason why. */
export function giveOrders(deps: GiveOrdersDeps) {
  return async (request: GiveOrdersRequest, caller: Caller): Promise<Response> => {
    const action = readRequest(request)
    const intent = intentOf(request)
    const known = await findRequest(deps.store.db, request.requestId)
    if (known) return await repeated(deps, known, intent)
    const selected = await selectForOrder(deps, request)
    const revision =
      request.action.case === 'apply' || request.action.case === 'upgrade'
        ? await requireRevision(deps.store.db, request.action.value.revision)
        : undefined
    const orders: NewOrders = {
      requestId: request.requestId,
      intent,
      action,
      machines: selected.machines,
      revision,
      actor: actorOf(caller),
      lifetimeMs: deps.orderLifetimeMs ?? ORDER_LIFETIME_MS,
      ownMachine: deps.ownHost(),
    }
    const backup = await backUpFirst(deps, orders)
    const result = await deps.store
      .transact(tx => writeOrders(tx, deps.directory, { ...orders, backup }, deps.clock.now()))
      .catch(async error => {
        // On a store with several writers the same request may be committed while this one is being written.
        const winner = isUniqueViolation(error) && (await findRequest(deps.store.db, request.requestId))
        if (!winner) throw error
        return { kind: 'known', request: winner } as const
      })
    if (backup) await deps.ownHostBackup.settle(backup, result.kind === 'ordered')
    if (result.kind === 'refused') throw precondition(listProblems(result.problems))
    // Another call with the same id was faster; what it ordered is the answer to both.
    if (result.kind === 'known') return await repeated(deps, result.request, intent)
    for (const id of result.ended) deps.operationFeed.notify(id)
    for (const machine of result.machines) deps.sessions.wake(machine)
    deps.log.info(
      { action: action.word, revision: revision?.manifest.number, machines: result.machines.length },
      'orders given',
    )
    return await answerWith(deps, result.operations, selected.errors)
  }
}

/**
 * The coordinator's own host may take the coordinator down with it, so a copy lies ready before it is ordered. Only made
 * for an order that would be given.
 */
async function backUpFirst(
  { store, directory, clock, ownHostBackup, operationFeed }: GiveOrdersDeps,
  orders: NewOrders,
): Promise<NewOrders['backup']> {
  const own = orders.machines.some(({ entry }) => entry.id === orders.ownMachine)
  if (!own || !isChange(orders.action.word)) return undefined
  const { verdict, ended } = await store.transact(tx => judgeIn(tx, directory, orders, clock.now()))
  for (const id of ended) operationFeed.notify(id)
  if (verdict.kind === 'refused') throw precondition(listProblems(verdict.problems))
  if (verdict.decisions.every(({ kind }) => kind === 'running')) return undefined
  const operation = operationId(clock.now())
  return { operation, path: await ownHostBackup.make(operation) }
}

function readRequest(request: GiveOrdersRequest): WantedAction {
  const { refs, where, requestId } = request
  if (requestId === '' || requestId.length > MAX_REQUEST_ID_CHARS) {
    throw invalid(`request_id: must be 1 to ${MAX_REQUEST_ID_CHARS} characters, random for each intent`)
  }
  if ((refs.length === 0) === (where.trim() === '')) {
    throw invalid('refs, where: name machines or give a selector, one of the two; `true` selects all')
  }
  if (refs.length > MAX_REFS) throw invalid(`refs: ${refs.length}, at most ${MAX_REFS} are allowed`)
  const action = readAction(request)
  if (typeof action === 'string') throw invalid(action)
  return action
}

/** What was asked for, however its parts are ordered. "The newest" stays what it was when it was asked first. */
function intentOf(request: GiveOrdersRequest): string {
  const { refs, where, action } = request
  return sha256Hex(JSON.stringify([[...new Set(refs)].toSorted(), where.trim(), ...partsOf(action)]))
}

function partsOf(action: GiveOrdersRequest['action']): readonly unknown[] {
  switch (action.case) {
    case 'apply':
      return [action.case, action.value.revision.toString(), action.value.planOnly]
    case 'upgrade':
      return [action.case, action.value.revision.toString(), action.value.fetchOnly]
    case 'rollback':
      return [action.case, action.value.operationId, action.value.before]
    case 'hold':
      return [action.case, action.value.reason.trim()]
    case 'reboot':
    case 'resume':
    case 'retry':
    case undefined:
      return [action.case ?? '']
  }
}

async function repeated(deps: GiveOrdersDeps, known: KnownRequest, intent: string): Promise<Response> {
  if (known.intent !== intent) {
    throw exists('request_id: was used for another order already; use a new one for each intent')
  }
  return await answerWith(deps, known.operations, [])
}

async function answerWith(
  { store }: GiveOrdersDeps,
  ids: readonly string[],
  errors: readonly SelectionError[],
): Promise<Response> {
  const rows = new Map((await findOperations(store.db, ids)).map(row => [row.id, row]))
  const ordered = ids.flatMap(id => rows.get(id) ?? [])
  return { operations: await describeOperations(store.db, ordered), errors: [...errors] }
}
