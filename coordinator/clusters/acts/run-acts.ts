import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { Clock } from '../../../shared/clock.ts'
import { ClusterOrderSchema, type ClusterStepEnded } from '../../../shared/gen/muster/v1/cluster_pb.ts'
import type { Envelope } from '../../../shared/gen/muster/v1/envelope_pb.ts'
import { operationId } from '../../../shared/ids.ts'
import type { ChangeFeed } from '../../operations/change-feed.ts'
import { recordEvent } from '../../store/events.ts'
import type { Store } from '../../store/store.ts'
import { type ClusterOrderInit, ORDER_MS, whyOf } from '../cluster-messages.ts'
import type { ClusterSnapshot } from '../cluster-snapshot.ts'
import type { Waiting } from '../reasons.ts'
import { loadRecord, saveRecord } from '../record-store.ts'
import { absorbActReport } from './absorb-act-report.ts'
import {
  dropCordon,
  findAct,
  findActOfOperation,
  insertAct,
  noteCordon,
  openActs,
  requestsOf,
  updateAct,
} from './act-store.ts'
import { type ClusterAct, isRebuilding, plainAct } from './cluster-act.ts'
import type { Kubeconfigs } from './kubeconfigs.ts'
import { type ActStep, type ManifestsWish, planActs } from './plan-acts.ts'

export interface ActsDeps {
  readonly store: Store
  readonly clock: Clock
  /** Told the id of each act that changed. */
  readonly feed: Pick<ChangeFeed, 'notify'>
  readonly kubeconfigs: Kubeconfigs
}

export interface ActOrder {
  readonly machine: string
  readonly order: ClusterOrderInit & { readonly operationId: string }
}

/** What follows from the acts of a cluster now. */
export interface ActsTurn {
  readonly orders: readonly ActOrder[]
  /** When something of it may be tried again; infinite: nothing waits for a time. */
  readonly nextMs: number
  /** Something was written, so that there may be more to do. */
  readonly moved: boolean
}

/** What the manifests of a cluster are, by the newest revision. */
export interface WantedManifests extends ManifestsWish {
  readonly manifestDigest: string
}

/** The acts that are under way. Read before the planner's turn reads its record, which has the leave of each of them then. */
export async function actsUnderWay(
  { store }: Pick<ActsDeps, 'store'>,
  cluster: string,
): Promise<ReadonlySet<string>> {
  return new Set((await openActs(store.db, cluster)).map(({ id }) => id))
}

/**
 * Follows the acts of a cluster after its planner's turn: writes what is next, and says which machines are to be told what.
 * Told again until it is answered; a node counts an operation once. `before` are the acts that were under way when the turn began: a leave
 * that was asked for since is not in its record, and would be taken for one that was given up.
 */
export async function runActs(
  deps: ActsDeps,
  snapshot: ClusterSnapshot,
  waiting: readonly Waiting[],
  manifests: WantedManifests | undefined,
  before: ReadonlySet<string>,
): Promise<ActsTurn> {
  const { store, clock, feed } = deps
  const cluster = snapshot.record.name
  const all = await openActs(store.db, cluster)
  const open = all.filter(({ act, id }) => act !== 'leave' || before.has(id))
  const isLate = open.length < all.length
  const isAdopted = snapshot.record.founding?.adopted ?? false
  const adopted = isAdopted ? await requestsOf(store.db, cluster, 'adopt') : new Set<string>()
  const { setBackAt, founding } = snapshot.record
  const stoodDown = setBackAt === 0 ? undefined : await requestsOf(store.db, cluster, 'stand-down')
  const restored = setBackAt === 0 ? undefined : await orderToRestore(store.db, founding?.operation ?? '')
  const at = clock.now()
  const wanted = planActs(
    { snapshot, waiting, open, adopted, manifests, ...(stoodDown && { stoodDown }) },
    at.getTime(),
  )
  // Without what an operator signed for the restore no machine would stand down.
  const steps = wanted.filter(step => step.kind !== 'new' || step.act !== 'stand-down' || restored)
  if (steps.length === 0) return turnOf(open, at.getTime(), isLate)
  const changed = await store.transact(async tx => {
    const changed: ClusterAct[] = []
    for (const step of steps) {
      const before = step.kind === 'new' ? undefined : await findAct(tx, step.id)
      if (step.kind !== 'new' && (!before || before.endedMs !== undefined)) continue
      const act =
        step.kind === 'new' ? newAct(step, cluster, { manifests, restored }, at) : applied(before, step, at)
      if (!act) continue
      await (step.kind === 'new' ? insertAct(tx, act) : updateAct(tx, act))
      changed.push(act)
      const said = describeStep(step, act)
      if (said === undefined) continue
      const { host, machine } = act
      await recordEvent(tx, { at, class: 'cluster', machine, host, reason: said, actor: 'coordinator' })
      if (step.kind === 'end' && act.act === 'leave' && step.done) await dropCordon(tx, cluster, host)
    }
    return changed
  })
  for (const { id } of changed) feed.notify(id)
  return turnOf(await openActs(store.db, cluster), at.getTime(), isLate || changed.length > 0)
}

function newAct(
  { request, act, host, machine, parameter }: Extract<ActStep, { kind: 'new' }>,
  cluster: string,
  known: Known,
  at: Date,
): ClusterAct | undefined {
  const action = actionOf(act, parameter, known)
  return (
    action && {
      ...plainAct({ id: operationId(at), cluster, askedBy: 'coordinator', askedMs: at.getTime() }),
      order: toBinary(ClusterOrderSchema, create(ClusterOrderSchema, { action })),
      request,
      act,
      host,
      machine,
      parameter,
    }
  )
}

interface Known {
  readonly manifests: WantedManifests | undefined
  /** What an operator signed for the restore that the datastore was set back by last. */
  readonly restored: Envelope | undefined
}

/** What an operator signed for the restore that was this operation; undefined: it is not known any more. */
async function orderToRestore(db: Store['db'], operation: string): Promise<Envelope | undefined> {
  const act = operation === '' ? undefined : await findActOfOperation(db, operation)
  const action = act?.order && fromBinary(ClusterOrderSchema, act.order).action
  return action?.case === 'restore' ? action.value.signedOrder : undefined
}

function actionOf(
  act: 'adopt' | 'manifests' | 'stand-down',
  parameter: string,
  { manifests, restored }: Known,
): ClusterOrderInit['action'] | undefined {
  if (act === 'stand-down') return restored && { case: 'standDown', value: { restore: restored } }
  if (act === 'adopt') return { case: 'adopt', value: { authority: parameter } }
  if (!manifests) return undefined
  const { revision, manifestDigest } = manifests
  return { case: 'manifests', value: { revision: BigInt(revision), manifestDigest } }
}

function applied(
  before: ClusterAct | undefined,
  step: Exclude<ActStep, { kind: 'new' }>,
  at: Date,
): ClusterAct | undefined {
  if (!before) return undefined
  switch (step.kind) {
    case 'begin': {
      const { executor, executorHost } = step
      return { ...before, executor, executorHost, operation: operationId(at) }
    }
    case 'end': {
      const { done, class: kind, reason } = step
      const result = done ? before.result : undefined
      return { ...before, endedMs: at.getTime(), done, class: kind, reason, result }
    }
    case 'show': {
      const { reason, executor, executorHost } = step
      return { ...before, reason, executor, executorHost }
    }
  }
}

function describeStep(step: ActStep, act: ClusterAct): string | undefined {
  const what = `${act.cluster}: ${act.act}${act.host === '' ? '' : ` of ${act.host}`}`
  switch (step.kind) {
    case 'new':
    case 'show':
      return undefined
    case 'begin':
      return `${what} is begun by way of ${act.executorHost} (act ${act.id})`
    case 'end':
      return `${what} ${step.done ? 'is done' : `ended: ${whyOf(step)}`} (act ${act.id})`
  }
}

function turnOf(open: readonly ClusterAct[], now: number, moved: boolean): ActsTurn {
  const later = open.map(({ notBeforeMs }) => notBeforeMs).filter(ms => ms > now)
  return { orders: ordersOf(open, now), nextMs: Math.min(...later), moved }
}

/** What is to be told, of acts that a machine has and has not answered. */
function ordersOf(open: readonly ClusterAct[], now: number): readonly ActOrder[] {
  return open.flatMap(({ executor: machine, operation, order, expiresMs, cluster }) => {
    if (operation === '' || machine === '' || !order) return []
    const { action } = fromBinary(ClusterOrderSchema, order)
    const expires = timestampFromMs(Math.min(expiresMs ?? Number.POSITIVE_INFINITY, now + ORDER_MS))
    return [{ machine, order: { operationId: operation, cluster, expires, action } }]
  })
}

/** The act that keeps everything else from changing the servers of a cluster; undefined: none does. */
export async function rebuildingIn({ store }: Pick<ActsDeps, 'store'>, cluster: string) {
  const act = (await openActs(store.db, cluster)).find(isRebuilding)
  return act && ({ gate: 'server-change', host: act.executorHost, operation: act.id } as const)
}

const TRIES = 3

/** Takes how an act ended. Undefined: the operation is no act's. Else whether the machine may forget its report. */
export async function takeActReport(
  { store, clock, feed, kubeconfigs }: ActsDeps,
  from: string,
  operation: string,
  ended: ClusterStepEnded,
): Promise<boolean | undefined> {
  const known = await findActOfOperation(store.db, operation)
  if (!known) return undefined
  // Whoever was not asked says nothing about it.
  const isLate = known.endedMs !== undefined
  if (known.executor !== from || (isLate && known.act !== 'restore')) return true
  const at = clock.now()
  for (let tries = 0; tries < TRIES; tries += 1) {
    const isWritten = await store.transact(async tx => {
      const act = await findAct(tx, known.id)
      if (!act || act.operation !== operation) return true
      if (act.endedMs !== undefined && act.act !== 'restore') return true
      const { cluster, host } = act
      const stored = await loadRecord(tx, cluster)
      const { act: next, record, cordon } = absorbActReport(act, ended, stored.record, at.getTime())
      if (!(await saveRecord(tx, stored, record))) return false
      if (next === act) return true
      await updateAct(tx, next)
      await noteCordon(tx, act, cordon, at.getTime())
      const how = ended.done ? 'is done' : `failed: ${whyOf(ended)}`
      const reason = `${cluster}: ${act.act}${host === '' ? '' : ` of ${host}`} ${how} (act ${act.id})`
      await recordEvent(tx, { at, class: 'cluster', machine: act.machine, host, reason, actor: from })
      return true
    })
    if (!isWritten) continue
    if (ended.value.case === 'kubeconfig') kubeconfigs.put(known.id, ended, at.getTime())
    feed.notify(known.id)
    return true
  }
  return false
}
