import { create } from '@bufbuild/protobuf'
import type { Transaction } from 'kysely'
import type { Clock } from '../../shared/clock.ts'
import { ClusterStepEndedSchema } from '../../shared/gen/muster/v1/cluster_pb.ts'
import { recordEvent } from '../store/events.ts'
import type { Store } from '../store/store.ts'
import type { Database } from '../store/tables.ts'
import { absorbReport, type StepReport } from './absorb-report.ts'
import { keptOf } from './acts/absorb-act-report.ts'
import { findAct, updateAct } from './acts/act-store.ts'
import type { ClusterRecord, Distribution } from './cluster-record.ts'
import type { ClusterSnapshot, MachineView, Observation, WantedHost } from './cluster-snapshot.ts'
import { dateRenewals, withoutRenewals } from './date-renewals.ts'
import { decideCluster } from './decide-cluster.ts'
import { describeReport } from './describe-report.ts'
import { type ClusterIntent, ordersFor } from './orders-for.ts'
import type { Waiting } from './reasons.ts'
import { loadObservations, loadRecord, saveObservation, saveRecord } from './record-store.ts'
import type { SecretRelay } from './secret-relay.ts'
import { applyStep } from './steps.ts'

/** Of a machine what the coordinator knows besides what it says of its cluster. */
export type MachineStanding = Omit<MachineView, 'observation'>

/** As much of what the newest revision wants of a cluster as decisions rest on. */
export interface WantedHosts {
  readonly distribution: Distribution
  readonly hosts: readonly WantedHost[]
}

export interface ClusterDeps<Secret> {
  readonly store: Store
  readonly clock: Clock
  /** What the newest revision says of a cluster; undefined: there is none of the name. */
  wanted(name: string): WantedHosts | undefined
  /** Of these machines those that are known. */
  standingsOf(machines: readonly string[]): Promise<ReadonlyMap<string, MachineStanding>>
  /** Newest observations of this process, with what servers see. */
  readonly seen: Map<string, Observation>
  readonly relay: SecretRelay<Secret>
  /** Gives orders to a machine's session, if it has one; each may be given many times. */
  send(machine: string, cluster: string, orders: readonly OrderToSend<Secret>[]): void | Promise<void>
}

export interface OrderToSend<Secret> {
  readonly intent: ClusterIntent
  /** For a joiner, when it is at hand. */
  readonly secret: Secret | undefined
}

/** How a turn of a cluster went. */
export interface Turn {
  readonly waiting: readonly Waiting[]
  /** What was decided on, with the record as it is now. */
  readonly snapshot: ClusterSnapshot
  /** Steps were written, so that there may be more to decide. */
  readonly moved: boolean
}

/**
 * One turn of a cluster: reads what is known, decides, writes all of it in one transaction, and only then tells machines.
 * May be killed anywhere: what is written is told again by the next turn, and what was not written was never told. Of two
 * turns at once one writes; the other changes nothing and its successor sees what the first one wrote. Undefined: the
 * newest revision has no such cluster.
 */
export async function runCluster<Secret>(
  deps: ClusterDeps<Secret>,
  name: string,
  around: Pick<ClusterSnapshot, 'rebuilding' | 'firstAbsentMs' | 'halted'> = {},
): Promise<Turn | undefined> {
  const wanted = deps.wanted(name)
  if (!wanted) return undefined
  // In a transaction, so that it is one record and not parts of two.
  const stored = await deps.store.transact(tx => loadRecord(tx, name))
  const snapshot = { ...(await readSnapshot(deps, wanted, stored.record)), ...around }
  const at = deps.clock.now()
  const now = at.getTime()
  const { steps, waiting } = decideCluster(snapshot, now)
  const record = steps.reduce((before, step) => applyStep(before, step, now), stored.record)
  const written = await deps.store.transact(async tx => {
    if (!(await saveRecord(tx, stored, record))) return false
    for (const { why, ...step } of steps) {
      const host = 'host' in step ? step.host : ''
      const machine = 'machine' in step ? step.machine : ''
      const reason = `${name}: ${step.kind}, since ${why}`
      await recordEvent(tx, { at, class: 'cluster', machine, host, reason, actor: 'coordinator' })
    }
    return true
  })
  if (!written) return { waiting, snapshot, moved: true }
  for (const join of record.joins) if (join.end !== undefined) deps.relay.drop(join.operation)
  for (const machine of machinesOf(wanted.hosts, record)) {
    const intents = ordersFor(record, machine).filter(
      // Whoever it was given to since the copy was made may have founded by now.
      ({ kind }) => kind !== 'found' || snapshot.halted === undefined,
    )
    const orders = intents.map(intent => ({
      intent,
      secret: intent.kind === 'join' ? deps.relay.get(intent.operation, now) : undefined,
    }))
    if (orders.length > 0) await deps.send(machine, name, orders)
  }
  return { waiting, snapshot: { ...snapshot, record }, moved: steps.length > 0 }
}

/** All that is known of a cluster now; what the planner decides on. Undefined: the newest revision has none of the name. */
export async function lookAtCluster<Secret>(
  deps: ClusterDeps<Secret>,
  name: string,
): Promise<ClusterSnapshot | undefined> {
  const wanted = deps.wanted(name)
  if (!wanted) return undefined
  const { record } = await deps.store.transact(tx => loadRecord(tx, name))
  return await readSnapshot(deps, wanted, record)
}

/** Every machine that has to do with a cluster. */
function machinesOf(hosts: readonly WantedHost[], record: ClusterRecord): readonly string[] {
  const { founding, firstServer, joins, clears, leaves } = record
  const ids = new Set([
    ...hosts.map(({ machine }) => machine),
    founding?.machine,
    firstServer,
    ...joins.flatMap(({ machine, minter, deleter }) => [machine, minter, deleter]),
    ...clears.flatMap(({ machine, server }) => [machine, server]),
    ...leaves.flatMap(({ machine, attempt }) => [machine, attempt?.executor]),
    ...record.left.values(),
  ])
  return [...ids].filter(id => id !== undefined)
}

async function readSnapshot<Secret>(
  deps: ClusterDeps<Secret>,
  { distribution, hosts }: WantedHosts,
  record: ClusterRecord,
): Promise<ClusterSnapshot> {
  const known = machinesOf(hosts, record)
  const kept = await loadObservations(
    deps.store.db,
    known.filter(id => !deps.seen.has(id)),
  )
  const standings = await deps.standingsOf(known)
  const machines = new Map<string, MachineView>()
  for (const id of known) {
    // One that never enrolled is not gone: only an operator's word makes it so, and what it has is unknown.
    const standing = standings.get(id) ?? { connected: false, gone: false, occupied: false }
    machines.set(id, { ...standing, observation: deps.seen.get(id) ?? kept.get(id) })
  }
  return { distribution, hosts: hosts.map(host => withPart(host, record.name, machines)), record, machines }
}

/** A machine whose running system is not made for the cluster cannot do anything in it, whatever the revision says. */
function withPart(
  wanted: WantedHost,
  cluster: string,
  machines: ReadonlyMap<string, MachineView>,
): WantedHost {
  const seen = machines.get(wanted.machine ?? '')?.observation
  if (wanted.barred || !seen || seen.part === cluster) return wanted
  return { ...wanted, barred: { gate: 'no-part', part: seen.part } }
}

/** Takes what a machine answered about its cluster. `asOfMs`: when the question was sent. Says whether anything is new. */
export async function takeObservation<Secret>(
  deps: Pick<ClusterDeps<Secret>, 'store' | 'seen'>,
  machine: string,
  seen: Observation,
): Promise<boolean> {
  const before = deps.seen.get(machine)
  if (before && before.asOfMs >= seen.asOfMs) return false
  // Only what would be missed after a restart is written: a server's view changes all the time.
  const same =
    before &&
    before.version === seen.version &&
    before.part === seen.part &&
    JSON.stringify(before.data) === JSON.stringify(seen.data)
  if (!same) await deps.store.transact(tx => saveObservation(tx, machine, seen))
  deps.seen.set(machine, { ...seen, view: seen.view && dateRenewals(seen.view, before) })
  const told = JSON.stringify(withoutRenewals(seen.view))
  return !same || JSON.stringify(withoutRenewals(before.view)) !== told
}

/** What became of a report. */
export interface TakenReport {
  /** The machine may forget it: what it means is on disk. */
  readonly acknowledged: boolean
  /** The join it belongs to moved on, so that its minter need not keep the secret any more. */
  readonly settles: string | undefined
}

const TRIES = 3

/**
 * Takes a report; what it means is on disk when this returns. `secret`: of what was minted, for the joiner alone. On a store
 * with several writers another one may be faster; then it is taken anew.
 */
export async function takeReport<Secret>(
  deps: Pick<ClusterDeps<Secret>, 'store' | 'clock' | 'relay'>,
  from: string,
  cluster: string,
  operation: string,
  report: StepReport,
  secret: Secret | undefined,
): Promise<TakenReport> {
  const at = deps.clock.now()
  const now = at.getTime()
  for (let tries = 0; tries < TRIES; tries += 1) {
    const { written, acknowledged, record } = await deps.store.transact(async tx => {
      const stored = await loadRecord(tx, cluster)
      const { record, acknowledged } = absorbReport(stored.record, from, operation, report, now)
      const written = await saveRecord(tx, stored, record)
      const leave = stored.record.leaves.find(({ attempt }) => attempt?.operation === operation)
      if (written && leave && !record.leaves.includes(leave)) await tellOperator(tx, leave.request, report)
      const said = written && record !== stored.record && describeReport(stored.record, operation, report)
      if (said) {
        const { host, text } = said
        const reason = `${cluster}: ${text}`
        await recordEvent(tx, { at, class: 'cluster', machine: from, host, reason, actor: from })
      }
      return { written, acknowledged, record }
    })
    if (!written) continue
    const join = record.joins.find(each => each.operation === operation)
    if (
      report.kind === 'minted' &&
      secret !== undefined &&
      join?.minter === from &&
      join.state === 'minted'
    ) {
      if (join.end === undefined) deps.relay.put(operation, secret, join.expiresMs, now)
    }
    const over = join && from === join.machine && (report.kind === 'received' || report.kind === 'ended')
    if (over) deps.relay.drop(operation)
    return { acknowledged, settles: over ? join.minter : undefined }
  }
  return { acknowledged: false, settles: undefined }
}

/** What a machine said of its leave goes into the act that an operator waits for, which ends later, when its Node is gone too. */
async function tellOperator(tx: Transaction<Database>, id: string, report: StepReport): Promise<void> {
  if (report.kind !== 'ended' || !report.done || report.told === undefined) return
  const act = await findAct(tx, id)
  if (!act || act.endedMs !== undefined) return
  const ended = create(ClusterStepEndedSchema, { done: true, value: { case: 'text', value: report.told } })
  await updateAct(tx, { ...act, result: keptOf(ended) })
}
