import { create, fromBinary } from '@bufbuild/protobuf'
import { reasonOf } from '../../shared/errors.ts'
import { RolloutSettingsSchema, StartRolloutRequestSchema } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'
import type { Logger } from '../../shared/log.ts'
import type { MachineDirectory } from '../machines/directory.ts'
import { findRevision } from '../store/revisions.ts'
import { rolloutsTouching } from '../store/rollouts.ts'
import type { Store } from '../store/store.ts'
import { leftBehind, namedByRollouts, succeededRollouts } from '../store/unfinished-rollouts.ts'
import { everyHost } from './api/select-hosts.ts'
import { AWAY_MS } from './api/start-rollout.ts'
import { type BeginDeps, type Beginning, beginRollout, prepareRollout, recordOfNew } from './begin-rollout.ts'
import { settingsOfRow } from './frozen-settings.ts'
import { memberOfHost } from './members.ts'
import { planRollouts } from './plan/plan-rollouts.ts'
import { worthBeginning } from './plan/worth-beginning.ts'
import { readSnapshot, type SnapshotDeps, snapshotOf } from './read-snapshot.ts'

/** Hosts that catch up in one run; the others follow. */
const MOST = 50
/** How long a host is left alone that was left behind while it caught up: what held it then may hold it again. */
const AGAIN_MS = 15 * 60_000
const REQUEST = 'catch-up '

export type CatchUpDeps = BeginDeps & SnapshotDeps & { readonly log: Logger }

interface Behind {
  readonly host: string
  readonly machine: string
  readonly rollout: string
  readonly revision: number
}

/**
 * Begins a rollout for each host that the last rollout which named it left behind, or that was enrolled since the last one for all hosts,
 * and that is here now: it goes through the same gates as everybody did. Who would only be left behind again, such as a host that is
 * locked, is not begun with before that is over. Says how many were begun.
 */
export async function catchUp(deps: CatchUpDeps): Promise<number> {
  const { clock, log } = deps
  if (deps.halted() !== undefined) return 0
  const beginnings: Beginning[] = []
  for (const behind of [...(await whoWasLeftBehind(deps)), ...(await whoCameSince(deps))]) {
    if (beginnings.length >= MOST) break
    const beginning = await beginningOf(deps, behind)
    if (beginning) beginnings.push(beginning)
  }
  if (beginnings.length === 0) return 0
  const nowMs = clock.now().getTime()
  const thought = []
  for (const beginning of beginnings) {
    const record = recordOfNew(await prepareRollout(deps, beginning), nowMs)
    thought.push({ id: record.id, hosts: record.hosts, record, beginning })
  }
  const { snapshot: open } = await readSnapshot(deps, nowMs)
  const records = [...open.rollouts, ...thought.map(({ record }) => record)]
  const decision = planRollouts(await snapshotOf(deps, records, nowMs), nowMs)
  const worth = worthBeginning(thought, decision)
  let begun = 0
  for (const { id, beginning } of thought) {
    if (!worth.has(id)) continue
    try {
      await beginRollout(deps, beginning)
      begun += 1
    } catch (error) {
      // Another rollout has it, or its cluster, now: it is looked at again when that is over.
      log.debug({ host: beginning.members[0]?.host, reason: reasonOf(error) }, 'host does not catch up yet')
    }
  }
  return begun
}

type Here = Pick<CatchUpDeps, 'directory' | 'sessions'>

/** The machine that is a host and that is here now. */
function machineHere({ directory, sessions }: Here, host: string): string | undefined {
  const machine = directory.machineOf(host)
  const session = machine === undefined ? undefined : sessions.live(machine)
  return session && !session.disputed ? machine : undefined
}

async function whoWasLeftBehind(deps: CatchUpDeps): Promise<readonly Behind[]> {
  const since = deps.clock.now().getTime() - AGAIN_MS
  return (await leftBehind(deps.store.db)).flatMap(({ rollout, host, revision, request, ended }) => {
    if (request.startsWith(REQUEST) && (ended ?? 0) > since) return []
    const machine = machineHere(deps, host)
    return machine === undefined ? [] : [{ host, machine, rollout, revision }]
  })
}

/** Machines that became hosts after the last rollout for all hosts had begun, and that none has named since. */
async function whoCameSince(
  deps: Here & { readonly store: Store; readonly directory: MachineDirectory },
): Promise<readonly Behind[]> {
  const { store, directory } = deps
  const last = (await succeededRollouts(store.db)).find(({ asked, settings }) => {
    const { refs, where } = fromBinary(StartRolloutRequestSchema, asked)
    return refs.length === 0 && where.trim() === '' && !settingsOfRow(settings).direct
  })
  if (!last) return []
  const came: Behind[] = []
  for (const { host, machine } of everyHost({ directory })) {
    if (machine === undefined || machineHere(deps, host) !== machine) continue
    if ((directory.get(machine)?.admittedAtMs ?? 0) < last.started) continue
    came.push({ host, machine, rollout: last.id, revision: last.revision })
  }
  const named = await namedByRollouts(
    store.db,
    came.map(({ host }) => host),
  )
  return came.filter(({ host }) => !named.has(host))
}

/** Undefined: something else has it, or its cluster, or the revision is not here any more. */
async function beginningOf(
  { store, directory }: CatchUpDeps,
  { host, machine, rollout, revision }: Behind,
): Promise<Beginning | undefined> {
  const member = memberOfHost(directory, host, machine)
  const clusters = member.cluster === undefined ? [] : [member.cluster]
  if ((await rolloutsTouching(store.db, [host], clusters)).length > 0) return undefined
  const found = await findRevision(store.db, revision)
  if (!found) return undefined
  return {
    asked: create(StartRolloutRequestSchema, {
      requestId: `${REQUEST}${rollout} ${sha256Hex(host).slice(0, 24)}`,
      action: 'apply',
      revision: BigInt(revision),
      refs: [host],
      why: `catches up with rollout ${rollout}, which left it behind`,
      settings: create(RolloutSettingsSchema),
    }),
    action: 'apply',
    revision: { number: revision, digest: found.manifest.digest },
    members: [member],
    direct: false,
    prefetch: true,
    awayMs: AWAY_MS,
    startedBy: 'coordinator',
  }
}
