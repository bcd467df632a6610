import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { timestampFromMs } from '@bufbuild/protobuf/wkt'
import type { Clock } from '../../../shared/clock.ts'
import { ClusterOrderSchema, type ClusterStepEnded } from '../../../shared/gen/muster/v1/cluster_pb.ts'
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
  adoptedRequests,
  dropCordon,
  findAct,
  findActOfOperation,
  insertAct,
  openActs,
  updateAct,
} from './act-store.ts'
import { type ClusterAct, isRebuilding } from './cluster-act.ts'
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

/**
 * Follows the acts of a cluster after its planner's turn: writes what is next, and says which machines are to be told what.
 * Told again until it is answered; a node counts an operation once.
 */
export async function runActs(
  deps: ActsDeps,
  snapshot: ClusterSnapshot,
  waiting: readonly Waiting[],
  manifests: WantedManifests | undefined,
): Promise<ActsTurn> {
  const { store, clock, feed } = deps
  const cluster = snapshot.record.name
  const open = await openActs(store.db, cluster)
  const isAdopted = snapshot.record.founding?.adopted ?? false
  const adopted = isAdopted ? await adoptedRequests(store.db, cluster) : new Set<string>()
  const at = clock.now()
  const steps = planActs({ snapshot, waiting, open, adopted, manifests }, at.getTime())
  if (steps.length === 0) return turnOf(open, at.getTime(), false)
  const changed = await store.transact(async tx => {
    const changed: ClusterAct[] = []
    for (const step of steps) {
      const before = step.kind === 'new' ? undefined : await findAct(tx, step.id)
      if (step.kind !== 'new' && (!before || before.endedMs !== undefined)) continue
      const act = step.kind === 'new' ? newAct(step, cluster, manifests, at) : applied(before, step, at)
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
  return turnOf(await openActs(store.db, cluster), at.getTime(), changed.length > 0)
}

function newAct(
  { request, act, host, machine, parameter }: Extract<ActStep, { kind: 'new' }>,
  cluster: string,
  manifests: WantedManifests | undefined,
  at: Date,
): ClusterAct | undefined {
  const action = actionOf(act, parameter, manifests)
  return (
    action && {
      id: operationId(at),
      intent: '',
      executor: '',
      executorHost: '',
      operation: '',
      askedBy: 'coordinator',
      askedMs: at.getTime(),
      expiresMs: undefined,
      order: toBinary(ClusterOrderSchema, create(ClusterOrderSchema, { action })),
      attempts: 0,
      notBeforeMs: 0,
      endedMs: undefined,
      done: false,
      class: '',
      reason: '',
      result: undefined,
      ...{ request, act, host, machine, parameter, cluster },
    }
  )
}

function actionOf(
  act: 'adopt' | 'manifests',
  parameter: string,
  manifests: WantedManifests | undefined,
): ClusterOrderInit['action'] | undefined {
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
      return { ...before, endedMs: at.getTime(), done, class: kind, reason }
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
  if (known.executor !== from || known.endedMs !== undefined) return true
  const at = clock.now()
  for (let tries = 0; tries < TRIES; tries += 1) {
    const isWritten = await store.transact(async tx => {
      const act = await findAct(tx, known.id)
      if (!act || act.endedMs !== undefined || act.operation !== operation) return true
      const { cluster, host } = act
      const stored = await loadRecord(tx, cluster)
      const { act: next, record, lifts } = absorbActReport(act, ended, stored.record, at.getTime())
      if (!(await saveRecord(tx, stored, record))) return false
      await updateAct(tx, next)
      if (lifts) await dropCordon(tx, cluster, host, act.act === 'uncordon' ? undefined : act.id)
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
