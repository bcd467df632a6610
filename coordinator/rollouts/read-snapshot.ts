import { fromBinary } from '@bufbuild/protobuf'
import type { Kysely } from 'kysely'
import { NodeStatusSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import type { Target } from '../../shared/gen/muster/v1/manifest_pb.ts'
import type { KnownManifest } from '../../shared/revision/read-manifest.ts'
import { DEFAULT_POLICY, readHostPolicy } from '../../shared/rollout/rollout-policy.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import { heldBecause, isLive } from '../machines/entry.ts'
import type { Sessions } from '../sessions/sessions.ts'
import { allLocks, pinsAt } from '../store/host-locks.ts'
import { findOperations, openChanges, outcomeOf, phasesOf } from '../store/operations.ts'
import { findRevision, newestRevision } from '../store/revisions.ts'
import {
  grantsOfRollouts,
  hostsOfRollouts,
  openRollouts,
  overridesOfRollouts,
  statesOfRollouts,
} from '../store/rollouts.ts'
import type { Store } from '../store/store.ts'
import type { Database } from '../store/tables.ts'
import type { ClusterSource } from './cluster-source.ts'
import type { GateQuestions } from './gate-questions.ts'
import { jobsViews } from './jobs-views.ts'
import { bootsOf, isServerRole } from './members.ts'
import { disturbanceOf, isQuarantineRefusal, missingOperation, viewOfOperation } from './operation-view.ts'
import { isMove } from './plan/host-steps.ts'
import type { RolloutRecord } from './plan/rollout-record.ts'
import type { HostView, OperationView, RolloutSnapshot } from './plan/rollout-snapshot.ts'
import type { Presence } from './presence.ts'
import { type RolloutRows, readRecords } from './read-record.ts'

/** Machines that are asked for in one statement. */
const QUARANTINE_CHUNK = 500

export interface SnapshotDeps {
  readonly store: Store
  readonly directory: MachineDirectory
  readonly sessions: Pick<Sessions, 'live' | 'machines'>
  readonly clusters: ClusterSource
  readonly presence: Presence
  /** What gates said on hosts. */
  readonly gateQuestions: Pick<GateQuestions, 'answers'>
  /** What Jobs said in clusters. */
  readonly jobQuestions: Pick<GateQuestions, 'answers'>
  /** Why nothing is granted at all; undefined: nothing is in the way. */
  readonly halted: () => string | undefined
}

/** A snapshot, and the rows that it was read from. */
export interface ReadSnapshot {
  readonly snapshot: RolloutSnapshot
  readonly rows: RolloutRows
}

export async function readSnapshot(deps: SnapshotDeps, nowMs: number): Promise<ReadSnapshot> {
  const { db } = deps.store
  const rollouts = await openRollouts(db)
  const ids = rollouts.map(({ id }) => id)
  const rows: RolloutRows = {
    rollouts,
    hosts: await hostsOfRollouts(db, ids),
    grants: await grantsOfRollouts(db, ids),
    overrides: await overridesOfRollouts(db, ids),
  }
  const records = readRecords(rows)
  return { rows, snapshot: await snapshotOf(deps, records, nowMs) }
}

/** The snapshot around these rollouts, which need not be written yet. */
export async function snapshotOf(
  deps: SnapshotDeps,
  records: readonly RolloutRecord[],
  nowMs: number,
): Promise<RolloutSnapshot> {
  const { store, directory, sessions, clusters, presence } = deps
  const { db } = store
  presence.look(sessions.machines(), nowMs)
  const granted = records.flatMap(({ hosts }) => hosts.flatMap(({ grants }) => grants))
  const operations = await operationViews(
    deps,
    [...new Set(granted.map(({ operation }) => operation))],
    orderedIn(records),
    provedBy(records),
  )
  const ours = new Set(granted.map(({ operation }) => operation))
  const busy = new Map(
    (await openChanges(db)).filter(({ id }) => !ours.has(id)).map(({ machine, id }) => [machine, id]),
  )
  const newest = await newestRevision(db)
  const policy = newest?.manifest.rollout ?? DEFAULT_POLICY
  const locks = new Map((await allLocks(db)).map(({ host, why }) => [host, why]))
  const pins = new Map((await pinsAt(db, nowMs)).map(pin => [pin.host, pin]))
  const manifests = await manifestsOf(db, records, newest?.manifest)
  const views = await clusters.views(nowMs)
  const hosts = new Map<string, HostView>()
  const quarantined = await quarantinedRevisions(db, directory, records)
  const named = new Set(records.flatMap(record => record.hosts.map(({ host }) => host)))
  const inRollouts = new Map<string, RolloutRecord[]>()
  for (const record of records) {
    for (const { host } of record.hosts) {
      const list = inRollouts.get(host)
      if (list) list.push(record)
      else inRollouts.set(host, [record])
    }
  }
  const add = (host: string, machine: string | undefined, group: string) => {
    const entry = machine === undefined ? undefined : directory.get(machine)
    const target = targetOf(directory, host, group)
    const session = machine === undefined ? undefined : sessions.live(machine)
    const connected = session !== undefined && !session.disputed
    const hostPolicy = readHostPolicy(target?.rollout)
    const pin = pins.get(host)
    const held = entry && whyHeld(directory, entry)
    const of = target && target.cluster !== '' && target.role !== 'none' ? target.cluster : undefined
    // What certainly runs nothing of its cluster yet is as outside of it.
    const cluster = of !== undefined && views.get(of)?.members.get(host)?.joined === false ? undefined : of
    hosts.set(host, {
      host,
      machine,
      cluster,
      server: cluster !== undefined && isServerRole(target?.role ?? 'none'),
      labels: { ...entry?.labels, ...target?.labels },
      connected,
      awaySinceMs:
        connected || machine === undefined
          ? undefined
          : Math.max(presence.awaySinceMs(machine), entry?.admittedAtMs ?? 0),
      connectedSinceMs: session?.startedMs,
      held,
      busyWith: machine === undefined ? undefined : busy.get(machine),
      system: entry?.system,
      allowed: entry?.allowed,
      // What no revision names may have gates that somebody knows.
      ungated:
        policy.askGates === 'where-any' && target !== undefined && (target.safety?.gates ?? []).length === 0,
      boots: bootsOf(entry),
      quarantined: quarantined.get(machine ?? '') ?? new Set(),
      lock: locks.get(host),
      pin: pin && { revision: pin.revision, why: pin.why, untilMs: pin.until_at },
      windows: hostPolicy.kind === 'ok' ? hostPolicy.value.windows : [],
      refused: refusals(
        inRollouts.get(host) ?? [],
        host,
        group,
        manifests,
        hostPolicy.kind === 'ok' ? undefined : `its settings cannot be read: ${hostPolicy.reason}`,
      ),
      versions: versionsOf(inRollouts.get(host) ?? [], target, manifests),
    })
  }
  for (const entry of directory.entries()) {
    if (!isLive(entry.state)) continue
    const assignment = directory.assignment(entry.id)
    if (assignment.kind === 'host') add(assignment.host, entry.id, assignment.group)
  }
  for (const host of named) if (!hosts.has(host)) add(host, undefined, '')
  const moved = new Set(
    records.flatMap(record =>
      record.hosts.flatMap(({ machine, grants }) =>
        machine !== undefined && grants.some(({ end, step }) => !end && step !== 'prefetch') ? [machine] : [],
      ),
    ),
  )
  return {
    rollouts: records,
    others: await statesOfRollouts(db, [
      ...new Set(
        records.flatMap(({ after, reverts }) => [...after, ...(reverts === undefined ? [] : [reverts])]),
      ),
    ]),
    hosts,
    clusters: views,
    operations,
    follows: policy.follows,
    windows: policy.windows,
    watchedSinceMs: presence.startedMs,
    silence: presence.silence(sessions.machines(), moved, policy.silentPercent, nowMs, machine =>
      isLive(directory.get(machine)?.state ?? 'evicted'),
    ),
    gates: policy.askGates === 'never' ? undefined : deps.gateQuestions.answers(),
    jobs: jobsViews(newest?.manifest, deps.jobQuestions.answers()),
    halted: deps.halted(),
  }
}

function whyHeld(
  directory: MachineDirectory,
  entry: NonNullable<ReturnType<MachineDirectory['get']>>,
): string | undefined {
  if (entry.state !== 'active') return `it is ${entry.state}, not active`
  const held = heldBecause(entry)
  if (held) return `it is held (${held.class}): ${held.reason}`
  const assignment = directory.assignment(entry.id)
  if (assignment.kind === 'conflict') return `it is in conflict: ${assignment.reason}`
  return entry.onHold ? `it is on hold: ${entry.onHold.reason}` : undefined
}

function targetOf(directory: MachineDirectory, host: string, group: string): Target | undefined {
  return group === '' ? directory.targets.hosts.get(host) : directory.targets.groups.get(group)
}

async function manifestsOf(
  db: Kysely<Database>,
  records: readonly RolloutRecord[],
  newest: KnownManifest | undefined,
): Promise<ReadonlyMap<number, KnownManifest>> {
  const known = new Map<number, KnownManifest>(newest ? [[newest.number, newest]] : [])
  for (const { revision } of records) {
    if (revision === 0 || known.has(revision)) continue
    const found = await findRevision(db, revision)
    if (found) known.set(revision, found.manifest)
  }
  return known
}

function refusals(
  records: readonly RolloutRecord[],
  host: string,
  group: string,
  manifests: ReadonlyMap<number, KnownManifest>,
  unreadable: string | undefined,
): ReadonlyMap<string, string> {
  const found = new Map<string, string>()
  for (const { id, revision } of records) {
    // Whoever cannot read when a host may be changed changes it at no time.
    if (unreadable !== undefined) found.set(id, unreadable)
    if (unreadable !== undefined || revision === 0) continue
    const manifest = manifests.get(revision)
    const has = group === '' ? manifest?.hosts.has(host) : manifest?.groups.has(group)
    if (!manifest) found.set(id, `revision ${revision} is not known here`)
    else if (!has) found.set(id, `revision ${revision} has no target for it`)
  }
  return found
}

/** The Kubernetes that each rollout brings the host, where its revision names one. */
function versionsOf(
  records: readonly RolloutRecord[],
  target: Target | undefined,
  manifests: ReadonlyMap<number, KnownManifest>,
): ReadonlyMap<string, string> {
  const found = new Map<string, string>()
  if (!target?.kubernetes || target.cluster === '') return found
  for (const { id, action, revision } of records) {
    // What lives in a profile of its own is left as it is when the system changes.
    const brings = action === 'upgrade' || (action === 'apply' && !target.kubernetes.apart)
    const version = brings ? manifests.get(revision)?.clusters.get(target.cluster)?.version : undefined
    if (version !== undefined) found.set(id, version)
  }
  return found
}

/**
 * Revisions that brought what is not tried again, and those that were refused since because they bring the same; read only of machines
 * that say that they have any.
 */
async function quarantinedRevisions(
  db: Kysely<Database>,
  directory: MachineDirectory,
  records: readonly RolloutRecord[],
): Promise<ReadonlyMap<string, ReadonlySet<number>>> {
  const machines = records
    .flatMap(({ hosts }) => hosts.map(({ host }) => directory.machineOf(host) ?? ''))
    .filter(machine => (directory.get(machine)?.quarantined ?? 0) > 0)
  const found = new Map<string, Set<number>>()
  for (let at = 0; at < machines.length; at += QUARANTINE_CHUNK) {
    const rows = await db
      .selectFrom('machines')
      .select(['id', 'node_status'])
      .where('id', 'in', machines.slice(at, at + QUARANTINE_CHUNK))
      .execute()
    for (const { id, node_status: bytes } of rows) {
      if (!bytes) continue
      const status = fromBinary(NodeStatusSchema, bytes)
      found.set(id, new Set(status.quarantined.map(({ revision }) => Number(revision))))
    }
  }
  for (const [id, revision] of await refusedSince(db, [...found.keys()], records))
    found.get(id)?.add(revision)
  return found
}

/** Machines with what they refused when it was last brought there, because it had failed on them under another number. */
async function refusedSince(
  db: Kysely<Database>,
  machines: readonly string[],
  records: readonly RolloutRecord[],
): Promise<readonly (readonly [machine: string, revision: number])[]> {
  const revisions = [...new Set(records.map(({ revision }) => revision))]
  const newest = new Map<string, boolean>()
  for (let at = 0; at < machines.length; at += QUARANTINE_CHUNK) {
    const rows = await db
      .selectFrom('operations')
      .select(['machine', 'revision', 'outcome'])
      .where('machine', 'in', machines.slice(at, at + QUARANTINE_CHUNK))
      .where('revision', 'in', revisions)
      .where('action', 'in', ['apply', 'plan'])
      .where('ended', 'is not', null)
      .orderBy('ended')
      .orderBy('id')
      .execute()
    for (const row of rows) newest.set(`${row.revision} ${row.machine}`, isQuarantineRefusal(outcomeOf(row)))
  }
  return [...newest].flatMap(([key, isRefused]) => {
    const [revision = '', machine = ''] = key.split(' ')
    return isRefused ? [[machine, Number(revision)] as const] : []
  })
}

async function operationViews(
  { store, clusters }: SnapshotDeps,
  ids: readonly string[],
  ordered: ReadonlySet<string>,
  proved: readonly string[],
): Promise<ReadonlyMap<string, OperationView>> {
  const wanted = ids.filter(id => id !== '')
  const rows = await findOperations(store.db, wanted)
  const phases = await phasesOf(store.db, proved)
  const views = new Map(
    rows.map((row): [string, OperationView] => {
      const view = viewOfOperation(row)
      const told = phases.get(row.id)
      return [row.id, told ? { ...view, disturbed: disturbanceOf(told, outcomeOf(row)?.ended) } : view]
    }),
  )
  const acts = await clusters.acts(wanted.filter(id => !views.has(id)))
  for (const [id, view] of acts) views.set(id, view)
  for (const id of ordered) if (!views.has(id)) views.set(id, missingOperation(id))
  return views
}

/** Operations of the hosts that are being proved: of no others it matters when their phases were. */
function provedBy(records: readonly RolloutRecord[]): readonly string[] {
  const hosts = records.flatMap(record => record.hosts)
  const proving = hosts.filter(({ grants }) => grants.some(({ step, end }) => step === 'prove' && !end))
  return proving.flatMap(({ grants }) => {
    const operation = grants.findLast(({ step }) => step === 'act')?.operation
    return operation === undefined || operation === '' ? [] : [operation]
  })
}

/** Operations whose rows were written with their grants: one that is not there is gone, other than an act that is yet to be asked for. */
function orderedIn(records: readonly RolloutRecord[]): ReadonlySet<string> {
  const ids = new Set<string>()
  for (const { action, hosts } of records) {
    for (const { grants } of hosts) {
      for (const { step, operation } of grants) {
        const isOrder = isMove(action) && (step === 'act' || step === 'prefetch')
        if (isOrder && operation !== '') ids.add(operation)
      }
    }
  }
  return ids
}
