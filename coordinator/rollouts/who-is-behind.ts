import { fromBinary } from '@bufbuild/protobuf'
import type { Kysely } from 'kysely'
import { StartRolloutRequestSchema } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { parseVersion, type Version } from '../../shared/kubernetes/version.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import { findRevision } from '../store/revisions.ts'
import type { RolloutRow } from '../store/rollouts.ts'
import type { Store } from '../store/store.ts'
import type { Database } from '../store/tables.ts'
import {
  type Brings,
  isProved,
  type LeftBehind,
  leftBehind,
  leftByFailed,
  namedByRollouts,
  succeededRollouts,
  succeededUpgrades,
} from '../store/unfinished-rollouts.ts'
import { everyHost } from './api/select-hosts.ts'
import type { BeginDeps } from './begin-rollout.ts'
import { settingsOfRow } from './frozen-settings.ts'
import { targetOfHost } from './members.ts'
import { followsUpgrade, needsUpgrade } from './plan/behind-upgrade.ts'
import type { SnapshotDeps } from './read-snapshot.ts'

/** How long a host is left alone that was left behind while it caught up: what held it then may hold it again. */
const AGAIN_MS = 15 * 60_000
/** What requests of rollouts begin with by which hosts catch up: together, or one by itself. */
export const CATCH_UP_REQUEST = { together: 'catch-up ', alone: 'catch-up-alone ', any: 'catch-up' } as const

export type BehindDeps = BeginDeps & SnapshotDeps

/** A host that is here and has still to get what a rollout brought the others. */
export interface Behind {
  readonly action: Brings
  readonly host: string
  readonly machine: string
  readonly rollout: string
  readonly revision: number
  /** By one rollout with the others of the same, under its settings. Else by itself: others have proved what it gets. */
  readonly together: boolean
  /** It was left behind while it caught up, and is left alone for a while. */
  readonly alone?: { readonly fromMs: number; readonly untilMs: number }
}

/**
 * Who was left behind by the last rollout that said something of it, who was enrolled since the last rollout for all hosts, and for a
 * Kubernetes that lives apart the same of upgrades, within each cluster. Only those that are here now.
 */
export async function whoIsBehind(deps: BehindDeps): Promise<readonly Behind[]> {
  return [
    ...(await whoWasLeftBehind(deps, 'apply')),
    ...(await whoCameSince(deps)),
    ...(await whoMissedUpgrades(deps)),
  ]
}

type Here = Pick<BehindDeps, 'directory' | 'sessions'>

/** The machine that is a host and that is here now. */
function machineHere({ directory, sessions }: Here, host: string): string | undefined {
  const machine = directory.machineOf(host)
  const session = machine === undefined ? undefined : sessions.live(machine)
  return session && !session.disputed ? machine : undefined
}

async function whoWasLeftBehind(deps: BehindDeps, action: Brings): Promise<readonly Behind[]> {
  const nowMs = deps.clock.now().getTime()
  return (await leftBehind(deps.store.db, action)).flatMap(({ rollout, host, revision, request, ended }) => {
    const isOne = request.startsWith(CATCH_UP_REQUEST.any)
    const machine = machineHere(deps, host)
    if (machine === undefined) return []
    const untilMs = (ended ?? 0) + AGAIN_MS
    const isAlone = isOne && untilMs > nowMs
    return [
      {
        action,
        host,
        machine,
        rollout,
        revision,
        together: true,
        ...(isAlone && { alone: { fromMs: ended ?? nowMs, untilMs } }),
      },
    ]
  })
}

/** A host that was to catch up by a rollout which failed, or was aborted, before its turn came. */
export interface Stranded
  extends Pick<LeftBehind, 'rollout' | 'host' | 'revision' | 'state' | 'reason' | 'ended'> {
  readonly action: Brings
  readonly machine: string
}

export async function whoIsStranded(deps: BehindDeps): Promise<readonly Stranded[]> {
  const found: Stranded[] = []
  for (const action of ['apply', 'upgrade'] as const) {
    for (const one of await leftByFailed(deps.store.db, action, CATCH_UP_REQUEST.any)) {
      const { rollout, host, revision, state, reason, ended } = one
      const machine = deps.directory.machineOf(host)
      if (machine === undefined) continue
      found.push({ rollout, host, revision, state, reason, ended, action, machine })
    }
  }
  return found
}

/** Of hosts that an upgrade left behind those that have still to get its Kubernetes, and those that came since. */
async function whoMissedUpgrades(deps: BehindDeps): Promise<readonly Behind[]> {
  const { store, directory, clusters, clock } = deps
  const left = await whoWasLeftBehind(deps, 'upgrade')
  const newest = await succeededUpgrades(store.db)
  if (left.length === 0 && newest.size === 0) return []
  const views = await clusters.views(clock.now().getTime())
  const versions = new Map<string, Version | undefined>()
  const wantedOf = async (revision: number, cluster: string): Promise<Version | undefined> => {
    const key = `${revision} ${cluster}`
    if (!versions.has(key)) {
      const found = await findRevision(store.db, revision)
      versions.set(key, parseVersion(found?.manifest.clusters.get(cluster)?.version ?? ''))
    }
    return versions.get(key)
  }
  const behind: Behind[] = []
  for (const each of left) {
    const cluster = targetOfHost(directory, each.host, each.machine)?.cluster ?? ''
    const wanted = await wantedOf(each.revision, cluster)
    if (needsUpgrade(each.host, views.get(cluster), wanted)) behind.push(each)
  }
  const came: Behind[] = []
  for (const entry of newest.size > 0 ? directory.entries() : []) {
    const assignment = directory.assignment(entry.id)
    if (entry.state !== 'active' || assignment.kind !== 'host') continue
    const { host } = assignment
    const target = targetOfHost(directory, host, entry.id)
    const last = newest.get(target?.cluster ?? '')
    if (!target?.kubernetes?.apart || !last || (entry.admittedAtMs ?? 0) < last.started) continue
    const wanted = await wantedOf(last.revision, target.cluster)
    if (!wanted || !followsUpgrade(host, views.get(target.cluster), wanted)) continue
    if (machineHere(deps, host) !== entry.id) continue
    came.push({
      action: 'upgrade',
      host,
      machine: entry.id,
      rollout: last.id,
      revision: last.revision,
      together: false,
    })
  }
  const named = await namedByRollouts(store.db, came, 'upgrade')
  return [...behind, ...came.filter(({ host }) => !named.has(host))]
}

/** The last rollout to a revision for all hosts that succeeded and that nobody took back: with it newcomers catch up. */
export async function lastForAll(db: Kysely<Database>): Promise<RolloutRow | undefined> {
  return (await succeededRollouts(db)).find(({ asked, settings }) => {
    const { refs, where } = fromBinary(StartRolloutRequestSchema, asked)
    return refs.length === 0 && where.trim() === '' && !settingsOfRow(settings).direct
  })
}

/** Machines that became hosts after the last rollout for all hosts had begun, and that none has named since. */
async function whoCameSince(
  deps: Here & { readonly store: Store; readonly directory: MachineDirectory },
): Promise<readonly Behind[]> {
  const { store, directory } = deps
  const last = await lastForAll(store.db)
  if (!last) return []
  const came: Behind[] = []
  // What all of it was left behind with is proved by nobody, so newcomers are careful with it, too.
  const together = !(await isProved(store.db, last.id))
  for (const { host, machine } of everyHost({ directory })) {
    if (machine === undefined || machineHere(deps, host) !== machine) continue
    if ((directory.get(machine)?.admittedAtMs ?? 0) < last.started) continue
    came.push({ action: 'apply', host, machine, rollout: last.id, revision: last.revision, together })
  }
  const named = await namedByRollouts(store.db, came, 'apply')
  return came.filter(({ host }) => !named.has(host))
}
