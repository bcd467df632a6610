import { fromBinary } from '@bufbuild/protobuf'
import type { Kysely } from 'kysely'
import type { Clock } from '../../shared/clock.ts'
import { NodeStatusSchema } from '../../shared/gen/muster/v1/agent_pb.ts'
import type { Facts } from '../../shared/gen/muster/v1/facts_pb.ts'
import type { Target } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { hasForeignSystem } from '../../shared/revision/foreign-system.ts'
import { readTarget } from '../../shared/revision/read-target.ts'
import { reachedSystem } from '../../shared/system-change.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import type { MachineEntry } from '../machines/entry.ts'
import { MAX_FACTS_BYTES, readFacts } from '../machines/read-facts.ts'
import { isChange } from '../operations/order-action.ts'
import type { FleetTargetsCache } from '../revisions/fleet-targets.ts'
import { factsAt, newestFacts, newestFactsTimes } from '../store/facts.ts'
import { pinsAt } from '../store/host-locks.ts'
import { readTexts } from '../store/json.ts'
import { findMachines } from '../store/machines.ts'
import { newestEndedChange, openOperations, outcomeOf, reachedOperations } from '../store/operations.ts'
import { rolloutsOfHosts } from '../store/rollouts-of-hosts.ts'
import type { Store } from '../store/store.ts'
import type { Database } from '../store/tables.ts'
import { findTargetBytes } from '../store/targets.ts'
import { awaitsFacts, type EndedChange } from './awaits-facts.ts'
import { desiredRevision, type NamedBy } from './desired-revision.ts'
import type { Desired, DriftInput, Reached } from './judge-drift.ts'

export interface DriftDeps {
  readonly store: Pick<Store, 'db'>
  readonly clock: Clock
  readonly directory: MachineDirectory
  readonly fleetTargets: Pick<FleetTargetsCache, 'current'>
}

export interface MachineSystems {
  readonly entry: MachineEntry
  readonly host: string
  /** When it told its newest facts. */
  readonly toldMs: number | undefined
  readonly input: DriftInput
}

/** Changes of one machine that got there and are looked back over. */
const PAST = 50

/** Reads what is known of the systems of some machines; at most 500 at a time. */
export async function readDrift(
  deps: DriftDeps,
  entries: readonly MachineEntry[],
): Promise<MachineSystems[]> {
  const { db } = deps.store
  const ids = entries.map(({ id }) => id)
  const nowMs = deps.clock.now().getTime()
  const facts = await newestFacts(db, ids)
  const told = await newestFactsTimes(db, ids)
  const rows = new Map((await findMachines(db, ids)).map(row => [row.id, row]))
  const moving = new Set(
    (await openOperations(db, ids))
      .filter(row => isChange(row.action ?? 'apply') && row.delivered !== null)
      .map(row => row.machine),
  )
  const found: MachineSystems[] = []
  const named = await rolloutsOfHosts(
    db,
    entries.flatMap(({ id }) => {
      const assignment = deps.directory.assignment(id)
      return assignment.kind === 'host' ? [assignment.host] : []
    }),
  )
  const pins = new Map((await pinsAt(db, nowMs)).map(pin => [pin.host, pin.revision]))
  for (const entry of entries) {
    const row = rows.get(entry.id)
    const bytes = facts.get(entry.id)
    const reading = bytes && readFacts(bytes, MAX_FACTS_BYTES)
    const nixos = reading?.kind === 'ok' ? reading.facts.nixos : undefined
    const status = row?.node_status ? fromBinary(NodeStatusSchema, row.node_status) : undefined
    const toldMs = told.get(entry.id)
    const { reached: past, ended } = await readPast(db, entry.id)
    const assignment = deps.directory.assignment(entry.id)
    const host = assignment.kind === 'host' ? assignment.host : ''
    found.push({
      entry,
      host,
      toldMs,
      input: {
        booted: nixos?.booted,
        current: nixos?.current,
        profile: nixos?.profile,
        profileGeneration: nixos?.generation === undefined ? undefined : Number(nixos.generation),
        generations: (status?.generations ?? []).map(({ number, storePath }) => ({ number, storePath })),
        desired:
          assignment.kind === 'host'
            ? await desiredOf(deps, host, assignment.group, pins.get(host), named.get(host) ?? [])
            : undefined,
        reached: past[0],
        reachedBefore: new Set(past.slice(1).map(({ storePath }) => storePath)),
        bootedSince: await bootedSince(
          db,
          entry.id,
          reading?.kind === 'ok' ? reading.facts : undefined,
          past[0],
        ),
        moving: moving.has(entry.id),
        factsAwaited: awaitsFacts({ current: nixos?.current, profile: nixos?.profile, toldMs }, ended, nowMs)
          ? ended?.operation
          : undefined,
        rebootReasons: readTexts(row?.reboot_reasons ?? '[]'),
        newest: deps.fleetTargets.current().revision,
        quarantined: (status?.quarantined ?? []).map(({ revision, storePath }) => ({
          revision: Number(revision),
          storePath,
        })),
      },
    })
  }
  return found
}

async function desiredOf(
  { fleetTargets, store }: DriftDeps,
  host: string,
  group: string,
  pin: number | undefined,
  named: readonly NamedBy[],
): Promise<Desired | undefined> {
  const { hosts, groups, revision: current } = fleetTargets.current()
  const newest = group === '' ? hosts.get(host) : groups.get(group)
  const isOurs = newest !== undefined && !hasForeignSystem(newest)
  const wanted = desiredRevision(pin, named, isOurs ? current : 0)
  if (!wanted) return undefined
  const { revision, back, by } = wanted
  const target = revision === current ? newest : await targetAt(store.db, revision, host, group)
  const way = target?.way
  return { revision, by, back, storePath: way?.case === 'closure' ? way.value.storePath : undefined }
}

async function targetAt(
  db: Kysely<Database>,
  revision: number,
  host: string,
  group: string,
): Promise<Target | undefined> {
  const bytes = revision === 0 ? undefined : await findTargetBytes(db, revision, host, group)
  const read = bytes && readTarget(bytes)
  return read?.kind === 'ok' ? read.target : undefined
}

/**
 * Whether the machine booted after a change: by the boot that it told of around the end of that change. Asked only where it
 * tells a boot from a switch by hand.
 */
async function bootedSince(
  db: Kysely<Database>,
  machine: string,
  facts: Facts | undefined,
  reached: PastReached | undefined,
): Promise<boolean | undefined> {
  const nixos = facts?.nixos
  const bootId = facts?.os?.bootId
  if (!reached || bootId === undefined || nixos?.current !== nixos?.booted) return undefined
  if (nixos?.current === reached.storePath) return undefined
  const before = await factsAt(db, machine, reached.endedMs)
  const reading = before && readFacts(before, MAX_FACTS_BYTES)
  const old = reading?.kind === 'ok' ? reading.facts.os?.bootId : undefined
  return old === undefined ? undefined : old !== bootId
}

interface PastReached extends Reached {
  readonly endedMs: number
}

/** Changes of ours that got there, newest first, with the systems that they reached; and the newest that ended, however. */
async function readPast(
  db: Kysely<Database>,
  machine: string,
): Promise<{ readonly reached: readonly PastReached[]; readonly ended: EndedChange | undefined }> {
  const rows = await reachedOperations(db, machine, PAST)
  const reached = rows.flatMap(row => {
    const action = row.action === 'rollback' ? row.action : 'apply'
    if (!reachedSystem({ action, outcomeClass: row.outcome_class, phase: row.phase })) return []
    const outcome = outcomeOf(row)
    const storePath = outcome?.storePath || outcome?.runs
    return storePath
      ? [{ operation: row.id, action, revision: row.revision, storePath, endedMs: row.ended ?? row.ordered }]
      : []
  })
  const last = await newestEndedChange(db, machine)
  const ended = last && {
    operation: last.id,
    endedMs: last.ended ?? last.ordered,
    runs: outcomeOf(last)?.runs ?? '',
    promoted: reached.find(({ operation }) => operation === last.id)?.storePath,
  }
  return { reached, ended }
}
