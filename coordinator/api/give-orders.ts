import { create, fromBinary, type MessageInitShape } from '@bufbuild/protobuf'
import type { GiveOrdersRequest, GiveOrdersResponseSchema } from '../../shared/gen/muster/v1/order_pb.ts'
import { StartRolloutRequestSchema } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'
import type { Logger } from '../../shared/log.ts'
import { exists, invalid, precondition } from '../../shared/rpc/rpc-error.ts'
import type { OwnHost } from '../machines/own-host.ts'
import type { ChangeFeed } from '../operations/change-feed.ts'
import { describeOperations } from '../operations/describe-operation.ts'
import { isChange, needsRevision, readAction, type WantedAction } from '../operations/order-action.ts'
import { ORDER_LIFETIME_MS } from '../operations/order-lifetime.ts'
import { judgeIn, type NewOrders, writeOrders } from '../operations/write-orders.ts'
import type { FleetQueryDeps } from '../queries/evaluate-fleet.ts'
import type { SelectionError } from '../queries/select-machines.ts'
import { requireRevision } from '../revisions/describe-revision.ts'
import { type BeginDeps, beginRollout } from '../rollouts/begin-rollout.ts'
import { memberOfHost } from '../rollouts/members.ts'
import { ROLLOUT_ACTIONS, type RolloutAction } from '../rollouts/plan/rollout-record.ts'
import type { Sessions } from '../sessions/sessions.ts'
import { allLocks, pinsAt } from '../store/host-locks.ts'
import { findOperations } from '../store/operations.ts'
import { findRequest, type KnownRequest } from '../store/requests.ts'
import {
  findRolloutByRequest,
  grantsOfRollouts,
  hostsOfRollouts,
  type RolloutRow,
} from '../store/rollouts.ts'
import { isUniqueViolation } from '../store/store.ts'
import { actorOf, type Caller } from './caller.ts'
import { listProblems } from './list-problems.ts'
import { type Selected, selectForOrder } from './select-for-order.ts'

const MAX_REFS = 10_000
const MAX_REQUEST_ID_CHARS = 64

export interface GiveOrdersDeps extends FleetQueryDeps {
  readonly sessions: FleetQueryDeps['sessions'] & Pick<Sessions, 'wake'>
  readonly operationFeed: ChangeFeed
  readonly log: Logger
  /** Which machine the coordinator runs on. */
  readonly ownHost: OwnHost
  readonly rollouts: Pick<BeginDeps, 'runner' | 'halted' | 'clusters'>
  /** How long an order may wait for its machine; absent: one hour. */
  readonly orderLifetimeMs?: number
}

type Response = MessageInitShape<typeof GiveOrdersResponseSchema>

/**
 * Gives machines an order: all that are named, or none and every reason why. What changes a machine becomes a rollout of one action, which
 * orders at once what its gates allow; everything else is ordered here.
 */
export function giveOrders(deps: GiveOrdersDeps) {
  return async (request: GiveOrdersRequest, caller: Caller): Promise<Response> => {
    const action = readRequest(request)
    const intent = intentOf(request)
    const known = await findRequest(deps.store.db, request.requestId)
    if (known) return await repeated(deps, known, intent)
    const rollout = await findRolloutByRequest(deps.store.db, request.requestId)
    if (rollout) return await repeatedRollout(deps, rollout, intent)
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
    if (isChange(action.word)) return await rollOut(deps, request, orders, selected)
    const result = await deps.store
      .transact(tx => writeOrders(tx, deps.directory, orders, deps.clock.now()))
      .catch(async error => {
        // On a store with several writers the same request may be committed while this one is being written.
        const winner = isUniqueViolation(error) && (await findRequest(deps.store.db, request.requestId))
        if (!winner) throw error
        return { kind: 'known', request: winner } as const
      })
    if (result.kind === 'refused') throw precondition(listProblems(result.problems))
    // Another call with the same id was faster; what it ordered is the answer to both.
    if (result.kind === 'known') return await repeated(deps, result.request, intent)
    for (const id of result.ended) deps.operationFeed.notify(id)
    for (const machine of result.machines) deps.sessions.wake(machine)
    deps.log.info({ action: action.word, machines: result.machines.length }, 'orders given')
    return await answerWith(deps, result.operations, selected.errors)
  }
}

/** Judges the whole order as it was always judged, and gives it by a rollout through the one planner. */
async function rollOut(
  deps: GiveOrdersDeps,
  request: GiveOrdersRequest,
  orders: NewOrders,
  selected: Selected,
): Promise<Response> {
  const { store, directory, clock, operationFeed, rollouts, log } = deps
  // What is over is taken down as over first, so that a host is free as soon as its operation has ended.
  await rollouts.runner.runNow()
  const { verdict, ended } = await store.transact(tx => judgeIn(tx, directory, orders, clock.now()))
  for (const id of ended) operationFeed.notify(id)
  const locked = await lockProblems(deps, orders)
  const problems = [...(verdict.kind === 'refused' ? verdict.problems : []), ...locked]
  if (verdict.kind === 'refused' || problems.length > 0) throw precondition(listProblems(problems))
  const running = verdict.decisions.flatMap(decision =>
    decision.kind === 'running' ? [decision.operation] : [],
  )
  const wanted = verdict.decisions.flatMap(decision => (decision.kind === 'order' ? [decision] : []))
  if (wanted.length === 0) return await answerWith(deps, running, selected.errors)
  const { action, revision } = orders
  const row = await beginRollout(
    { store, directory, clock, ...rollouts },
    {
      asked: askedOf(request, orders),
      intent: orders.intent,
      action: changeOf(action.word),
      revision: revision && { number: revision.manifest.number, digest: revision.manifest.digest },
      members: wanted.map(({ host, machine }) => memberOfHost(directory, host, machine)),
      direct: request.refs.length > 0 && !request.selected,
      prefetch: false,
      awayMs: orders.lifetimeMs,
      startedBy: orders.actor,
    },
  )
  log.info({ action: action.word, rollout: row.id, machines: wanted.length }, 'orders given')
  return await answerWithRollout(deps, row, running, selected.errors)
}

/** A change by the word that rollouts know. */
function changeOf(word: string): RolloutAction {
  const found = ROLLOUT_ACTIONS.find(action => action === word)
  if (!found) throw new Error(`no rollout does ${word}`)
  return found
}

/** The same order as a rollout is asked for. */
function askedOf(request: GiveOrdersRequest, { requestId, action, revision }: NewOrders) {
  return create(StartRolloutRequestSchema, {
    requestId,
    action: action.word,
    revision: BigInt(revision?.manifest.number ?? 0),
    refs: request.refs,
    where: request.where,
    ...(action.word === 'rollback' && { rollback: { operationId: action.to, before: action.before } }),
  })
}

/** Rollouts pass a locked host by; who names it is told so at once. */
async function lockProblems(
  { store, clock, directory }: GiveOrdersDeps,
  { machines, action, revision }: NewOrders,
): Promise<readonly string[]> {
  const locks = new Map((await allLocks(store.db)).map(({ host, why }) => [host, why]))
  const pins = new Map((await pinsAt(store.db, clock.now().getTime())).map(pin => [pin.host, pin]))
  return machines.flatMap(({ ref, entry }) => {
    const assignment = directory.assignment(entry.id)
    if (assignment.kind !== 'host') return []
    const lock = locks.get(assignment.host)
    if (lock !== undefined)
      return [`${ref}: is locked (${lock}); \`muster unlock ${assignment.host}\` lets it be touched`]
    const pin = needsRevision(action.word) ? pins.get(assignment.host) : undefined
    if (pin === undefined || pin.revision === revision?.manifest.number) return []
    return [
      `${ref}: is pinned to revision ${pin.revision} (${pin.why}); \`muster unpin ${assignment.host}\` lets it go elsewhere`,
    ]
  })
}

function readRequest(request: GiveOrdersRequest): WantedAction {
  const { refs, where, requestId, selected } = request
  if (requestId === '' || requestId.length > MAX_REQUEST_ID_CHARS) {
    throw invalid(`request_id: must be 1 to ${MAX_REQUEST_ID_CHARS} characters, random for each intent`)
  }
  if ((refs.length === 0) === (where.trim() === '')) {
    throw invalid('refs, where: name machines or give a selector, one of the two; `true` selects all')
  }
  if (selected && refs.length === 0) throw invalid('selected: is about the machines in refs')
  if (refs.length > MAX_REFS) throw invalid(`refs: ${refs.length}, at most ${MAX_REFS} are allowed`)
  const action = readAction(request)
  if (typeof action === 'string') throw invalid(action)
  return action
}

/** What was asked for, however its parts are ordered. "The newest" stays what it was when it was asked first. */
function intentOf(request: GiveOrdersRequest): string {
  const { refs, where, action, selected } = request
  const chosen = selected ? ['selected'] : []
  return sha256Hex(
    JSON.stringify([[...new Set(refs)].toSorted(), where.trim(), ...partsOf(action), ...chosen]),
  )
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
    case 'restart':
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

async function repeatedRollout(deps: GiveOrdersDeps, row: RolloutRow, intent: string): Promise<Response> {
  if (row.intent !== intent) {
    throw exists('request_id: was used for another order already; use a new one for each intent')
  }
  return await answerWithRollout(deps, row, [], [])
}

/** What the rollout has ordered so far; it is named where there is more to come. */
async function answerWithRollout(
  deps: GiveOrdersDeps,
  row: RolloutRow,
  running: readonly string[],
  errors: readonly SelectionError[],
): Promise<Response> {
  const grants = await grantsOfRollouts(deps.store.db, [row.id])
  const given = new Map(
    grants
      .filter(({ step, operation }) => step === 'act' && operation !== '')
      .map(grant => [grant.host, grant]),
  )
  const hosts = await hostsOfRollouts(deps.store.db, [row.id])
  const asked = askedHosts(deps, row)
  const ordered = [...given].toSorted(([a], [b]) => (asked.get(a) ?? 0) - (asked.get(b) ?? 0))
  const ids = [...running, ...ordered.map(([, { operation }]) => operation)]
  const more = hosts.some(({ host }) => !given.has(host))
  return { ...(await answerWith(deps, ids, errors)), ...(more && { rolloutId: row.id }) }
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

/** Hosts in the order in which they were named. */
function askedHosts({ directory }: GiveOrdersDeps, row: RolloutRow): ReadonlyMap<string, number> {
  const places = new Map<string, number>()
  for (const [place, ref] of fromBinary(StartRolloutRequestSchema, row.asked).refs.entries()) {
    const machine = directory.machineOf(ref) ?? [...directory.ids()].find(id => id.startsWith(ref))
    const assignment = machine === undefined ? undefined : directory.assignment(machine)
    if (assignment?.kind === 'host') places.set(assignment.host, place)
  }
  return places
}
