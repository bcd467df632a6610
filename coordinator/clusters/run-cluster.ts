import type { Clock } from '../../shared/clock.ts'
import { recordEvent } from '../store/events.ts'
import type { Store } from '../store/store.ts'
import { absorbReport, type StepReport } from './absorb-report.ts'
import type { Distribution } from './cluster-record.ts'
import type { ClusterSnapshot, MachineView, Observation, WantedHost } from './cluster-snapshot.ts'
import { decideCluster } from './decide-cluster.ts'
import { type ClusterIntent, ordersFor } from './orders-for.ts'
import type { Waiting } from './reasons.ts'
import { loadObservations, loadRecord, saveObservation, saveRecord } from './record-store.ts'
import type { SecretRelay } from './secret-relay.ts'
import { applyStep } from './steps.ts'

/** Of a machine what the coordinator knows besides what it says of its cluster. */
export type MachineStanding = Omit<MachineView, 'observation'>

export interface ClusterDeps<Secret> {
  readonly store: Store
  readonly clock: Clock
  /** What the newest revision says of a cluster; undefined: there is none of the name. */
  wanted(
    name: string,
  ): { readonly distribution: Distribution; readonly hosts: readonly WantedHost[] } | undefined
  standingOf(machine: string): MachineStanding | undefined
  /** Newest observations of this process, with what servers see. */
  readonly seen: Map<string, Observation>
  readonly relay: SecretRelay<Secret>
  /** Gives orders to a machine's session, if it has one; each may be given many times. */
  send(machine: string, cluster: string, orders: readonly OrderToSend<Secret>[]): void
}

export interface OrderToSend<Secret> {
  readonly intent: ClusterIntent
  /** For a joiner, when it is at hand. */
  readonly secret: Secret | undefined
}

/**
 * One turn of a cluster: reads what is known, decides, writes all of it in one transaction, and only then tells machines.
 * May be killed anywhere: what is written is told again by the next turn, and what was not written was never told. Of two
 * turns at once one writes; the other changes nothing and its successor sees what the first one wrote. Says what waits.
 */
export async function runCluster<Secret>(
  deps: ClusterDeps<Secret>,
  name: string,
): Promise<readonly Waiting[]> {
  const wanted = deps.wanted(name)
  if (!wanted) return []
  // In a transaction, so that it is one record and not parts of two.
  const stored = await deps.store.transact(tx => loadRecord(tx, name))
  const snapshot = await readSnapshot(deps, wanted, stored.record)
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
  if (!written) return waiting
  for (const join of record.joins) if (join.end !== undefined) deps.relay.drop(join.operation)
  for (const machine of snapshot.machines.keys()) {
    const orders = ordersFor(record, machine).map(intent => ({
      intent,
      secret: intent.kind === 'join' ? deps.relay.get(intent.operation, now) : undefined,
    }))
    if (orders.length > 0) deps.send(machine, name, orders)
  }
  return waiting
}

async function readSnapshot<Secret>(
  deps: ClusterDeps<Secret>,
  { distribution, hosts }: { readonly distribution: Distribution; readonly hosts: readonly WantedHost[] },
  record: ClusterSnapshot['record'],
): Promise<ClusterSnapshot> {
  const { founding, firstServer, joins, clears, leaves } = record
  const ids = new Set([
    ...hosts.map(({ machine }) => machine),
    founding?.machine,
    firstServer,
    ...joins.flatMap(({ machine, minter, deleter }) => [machine, minter, deleter]),
    ...clears.flatMap(({ machine, server }) => [machine, server]),
    ...leaves.flatMap(({ machine, attempt }) => [machine, attempt?.executor]),
  ])
  ids.delete(undefined)
  const known = [...ids].filter(id => id !== undefined)
  const kept = await loadObservations(deps.store.db, known)
  const machines = new Map<string, MachineView>()
  for (const id of known) {
    const standing = deps.standingOf(id)
    // One that never enrolled is not gone: only an operator's word makes it so, and what it has is unknown.
    const { connected, gone, occupied } = standing ?? { connected: false, gone: false, occupied: false }
    machines.set(id, { connected, gone, occupied, observation: deps.seen.get(id) ?? kept.get(id) })
  }
  return { distribution, hosts, record, machines }
}

/** Takes what a machine answered about its cluster. `asOfMs`: when the question was sent. */
export async function takeObservation<Secret>(
  deps: ClusterDeps<Secret>,
  machine: string,
  seen: Observation,
): Promise<void> {
  const before = deps.seen.get(machine)
  if (before && before.asOfMs >= seen.asOfMs) return
  // Only what would be missed after a restart is written: a server's view changes all the time.
  const same =
    before && before.version === seen.version && JSON.stringify(before.data) === JSON.stringify(seen.data)
  if (!same) await deps.store.transact(tx => saveObservation(tx, machine, seen))
  deps.seen.set(machine, seen)
}

/**
 * Takes a report, and says whether the machine may forget it: what it means is then on disk. `secret`: of what was
 * minted, for the joiner alone.
 */
export async function takeReport<Secret>(
  deps: ClusterDeps<Secret>,
  from: string,
  cluster: string,
  operation: string,
  report: StepReport,
  secret: Secret | undefined,
): Promise<boolean> {
  const now = deps.clock.now().getTime()
  const { written, acknowledged, record } = await deps.store.transact(async tx => {
    const stored = await loadRecord(tx, cluster)
    const { record, acknowledged } = absorbReport(stored.record, from, operation, report, now)
    return { written: await saveRecord(tx, stored, record), acknowledged, record }
  })
  if (!written) return false
  const join = record.joins.find(each => each.operation === operation)
  if (report.kind === 'minted' && secret !== undefined && join?.minter === from && join.state === 'minted') {
    if (join.end === undefined) deps.relay.put(operation, secret, join.expiresMs, now)
  }
  if (report.kind === 'received' && from === join?.machine) deps.relay.drop(operation)
  return acknowledged
}
