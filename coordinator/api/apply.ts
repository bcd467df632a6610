import type { MessageInitShape } from '@bufbuild/protobuf'
import type { Transaction } from 'kysely'
import { exists, invalid, notFound, precondition, RpcError, reasonOf } from '../../shared/errors.ts'
import type { ApplyRequest, ApplyResponseSchema } from '../../shared/gen/muster/v1/operator_pb.ts'
import { operationId, sha256Hex } from '../../shared/ids.ts'
import type { Logger } from '../../shared/log.ts'
import { heldBecause, type MachineEntry } from '../machines/entry.ts'
import { resolveMachine } from '../machines/resolve.ts'
import type { ChangeFeed } from '../operations/change-feed.ts'
import { describeOperations } from '../operations/describe-operation.ts'
import { type ApplyDecision, judgeApply } from '../operations/judge-apply.ts'
import { moveOperation, stateOf } from '../operations/move-operation.ts'
import { transition } from '../operations/transition.ts'
import type { FleetQueryDeps } from '../queries/evaluate-fleet.ts'
import { type SelectionError, selectMachines } from '../queries/select-machines.ts'
import { requireRevision } from '../revisions/describe-revision.ts'
import type { Sessions } from '../sessions/sessions.ts'
import { recordEvent } from '../store/events.ts'
import { allowedVerbs, findOperations, insertOperations, openOperations } from '../store/operations.ts'
import { findRequest, insertRequest, type KnownRequest } from '../store/requests.ts'
import { newestRevision, type StoredRevision } from '../store/revisions.ts'
import { isUniqueViolation } from '../store/store.ts'
import type { Database } from '../store/tables.ts'
import { actorOf, type Caller } from './caller.ts'

const MAX_REFS = 10_000
const MAX_REQUEST_ID_CHARS = 64
/** Problems that are written out, each to this length; the others are counted. A status travels in one header. */
const SHOWN_PROBLEMS = 20
const MAX_PROBLEM_CHARS = 250
export const ORDER_LIFETIME_MS = 3_600_000

export interface ApplyDeps extends FleetQueryDeps {
  readonly sessions: FleetQueryDeps['sessions'] & Pick<Sessions, 'wake'>
  readonly operationFeed: ChangeFeed
  readonly log: Logger
  /** How long an order may wait for its machine; absent: one hour. */
  readonly orderLifetimeMs?: number
}

type Response = MessageInitShape<typeof ApplyResponseSchema>

interface Selected {
  readonly machines: readonly { readonly ref: string; readonly entry: MachineEntry }[]
  readonly errors: readonly SelectionError[]
}

/** Orders machines to a revision: all that are named, or none and every reason why. */
export function apply(deps: ApplyDeps) {
  return async (request: ApplyRequest, caller: Caller): Promise<Response> => {
    checkRequest(request)
    const intent = intentOf(request)
    const known = await findRequest(deps.store.db, request.requestId)
    if (known) return await repeated(deps, known, intent)
    const selected = await selectFor(deps, request)
    const revision = await requireRevision(deps.store.db, request.revision)
    const order = { request, intent, selected, revision, actor: actorOf(caller) }
    const result = await deps.store
      .transact(tx => writeOrders(deps, tx, order))
      .catch(async error => {
        // On a store with several writers the same request may be committed while this one is being written.
        const winner = isUniqueViolation(error) && (await findRequest(deps.store.db, request.requestId))
        if (!winner) throw error
        return { kind: 'known', request: winner } as const
      })
    if (result.kind === 'refused') throw refusal(result.problems)
    // Another call with the same id was faster; what it ordered is the answer to both.
    if (result.kind === 'known') return await repeated(deps, result.request, intent)
    for (const id of result.ended) deps.operationFeed.notify(id)
    for (const { machine } of result.decisions) deps.sessions.wake(machine)
    deps.log.info(
      { revision: revision.manifest.number, machines: result.decisions.length, actor: actorOf(caller) },
      'machines ordered to a revision',
    )
    return await answerWith(deps, result.operations, selected.errors)
  }
}

function checkRequest({ refs, where, requestId }: ApplyRequest): void {
  if (requestId === '' || requestId.length > MAX_REQUEST_ID_CHARS) {
    throw invalid(`request_id: must be 1 to ${MAX_REQUEST_ID_CHARS} characters, random for each intent`)
  }
  if ((refs.length === 0) === (where.trim() === '')) {
    throw invalid('refs, where: name machines or give a selector, one of the two; `true` selects all')
  }
  if (refs.length > MAX_REFS) throw invalid(`refs: ${refs.length}, at most ${MAX_REFS} are allowed`)
}

/** What was asked for, however its parts are ordered. "The newest" stays what it was when it was asked first. */
function intentOf({ refs, where, revision }: ApplyRequest): string {
  return sha256Hex(JSON.stringify([[...new Set(refs)].toSorted(), where.trim(), revision.toString()]))
}

async function repeated(deps: ApplyDeps, known: KnownRequest, intent: string): Promise<Response> {
  if (known.intent !== intent) {
    throw exists('request_id: was used for another order already; use a new one for each intent')
  }
  return await answerWith(deps, known.operations, [])
}

async function answerWith(
  { store }: ApplyDeps,
  ids: readonly string[],
  errors: readonly SelectionError[],
): Promise<Response> {
  const rows = new Map((await findOperations(store.db, ids)).map(row => [row.id, row]))
  const ordered = ids.flatMap(id => rows.get(id) ?? [])
  return { operations: await describeOperations(store.db, ordered), errors: [...errors] }
}

async function selectFor(deps: ApplyDeps, { refs, where }: ApplyRequest): Promise<Selected> {
  if (where.trim() !== '') {
    const { matched, errors } = await selectMachines(deps, where, ({ state }) => state === 'active')
    if (matched.length === 0) {
      const [first] = errors
      const why = first ? `; it could not be evaluated for ${errors.length}, such as: ${first.reason}` : ''
      throw notFound(`where: no active machine matches${why}`)
    }
    const machines = matched.map(entry => ({ ref: nameOf(deps, entry), entry }))
    return { machines, errors }
  }
  const problems: string[] = []
  const machines = refs.flatMap(ref => {
    try {
      return [{ ref, entry: resolveMachine(deps.directory, ref) }]
    } catch (error) {
      if (!(error instanceof RpcError)) throw error
      problems.push(`${JSON.stringify(ref.slice(0, 64))}: ${reasonOf(error)}`)
      return []
    }
  })
  if (problems.length > 0) throw notFound(listProblems(problems))
  return { machines, errors: [] }
}

function nameOf({ directory }: ApplyDeps, entry: MachineEntry): string {
  const assignment = directory.assignment(entry.id)
  return assignment.kind === 'host' ? assignment.host : entry.id
}

type Written =
  | { readonly kind: 'known'; readonly request: KnownRequest }
  | { readonly kind: 'refused'; readonly problems: readonly string[] }
  | {
      readonly kind: 'ordered'
      readonly operations: readonly string[]
      readonly decisions: readonly ApplyDecision[]
      readonly ended: readonly string[]
    }

async function writeOrders(
  deps: ApplyDeps,
  tx: Transaction<Database>,
  order: {
    readonly request: ApplyRequest
    readonly intent: string
    readonly selected: Selected
    readonly revision: StoredRevision
    readonly actor: string
  },
): Promise<Written> {
  const { request, intent, selected, revision, actor } = order
  const now = deps.clock.now()
  const known = await findRequest(tx, request.requestId)
  if (known) return { kind: 'known', request: known }
  const { manifest } = revision
  const ids = selected.machines.map(({ entry }) => entry.id)
  const { open, ended } = await openAndEnded(tx, ids, now)
  const allowed = await allowedVerbs(tx, ids)
  const verdict = judgeApply(
    {
      revision: manifest.number,
      expires: manifest.expires,
      hosts: new Set(manifest.hosts.keys()),
      groups: new Set(manifest.groups.keys()),
      floor: (await newestRevision(tx))?.manifest.floor ?? manifest.floor,
    },
    // Read from memory here, after all waiting: what an operator did meanwhile counts.
    selected.machines.map(({ ref, entry }) => {
      const current = deps.directory.get(entry.id) ?? entry
      return {
        ref,
        machine: entry.id,
        state: current.state,
        held: heldBecause(current)?.class,
        assignment: deps.directory.assignment(entry.id),
        allowed: allowed.get(entry.id) ?? [],
        open: open.get(entry.id) ?? [],
      }
    }),
    now,
  )
  if (verdict.kind === 'refused') return verdict
  const operations = verdict.decisions.map(decision =>
    decision.kind === 'running' ? decision.operation : operationId(now),
  )
  const rows = verdict.decisions.flatMap((decision, index) =>
    decision.kind === 'running'
      ? []
      : [
          {
            id: operations[index] ?? operationId(now),
            machine: decision.machine,
            host: decision.host,
            revision: manifest.number,
            manifest_digest: manifest.digest,
            ordered: now.getTime(),
            ordered_by: actor,
            expires: now.getTime() + (deps.orderLifetimeMs ?? ORDER_LIFETIME_MS),
            delivered: null,
            phase: 0,
            outcome: null,
            outcome_class: 0,
            ended: null,
          },
        ],
  )
  await insertOperations(tx, rows)
  await insertRequest(tx, request.requestId, { intent, operations }, now)
  for (const { id, machine, host } of rows) {
    await recordEvent(tx, {
      at: now,
      class: 'ordered',
      machine,
      host,
      reason: `operation ${id} to revision ${manifest.number}`,
      actor,
    })
  }
  return { kind: 'ordered', operations, decisions: verdict.decisions, ended }
}

/** The open operations of machines, after ending those that the clock has ended. */
async function openAndEnded(tx: Transaction<Database>, machines: readonly string[], now: Date) {
  const open = new Map<string, { id: string; revision: number }[]>()
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

function refusal(problems: readonly string[]): RpcError {
  return precondition(listProblems(problems))
}

function listProblems(problems: readonly string[]): string {
  const more = problems.length - SHOWN_PROBLEMS
  const shown = problems
    .slice(0, SHOWN_PROBLEMS)
    .map(text => text.slice(0, MAX_PROBLEM_CHARS))
    .join('\n')
  return more > 0 ? `${shown}\nand ${more} more` : shown
}
