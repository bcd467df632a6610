import { create, fromBinary } from '@bufbuild/protobuf'
import { cutText } from '../../shared/cut-text.ts'
import { reasonOf } from '../../shared/errors.ts'
import { RolloutSettingsSchema, StartRolloutRequestSchema } from '../../shared/gen/muster/v1/rollout_pb.ts'
import { sha256Hex } from '../../shared/ids.ts'
import type { Logger } from '../../shared/log.ts'
import { DEFAULT_POLICY, type RolloutPolicy } from '../../shared/rollout/rollout-policy.ts'
import { findRevision, newestRevision } from '../store/revisions.ts'
import { findRollout, hostsOfRollouts, type RolloutRow, rolloutsTouching } from '../store/rollouts.ts'
import { type UnprovedRollout, unprovedRollouts } from '../store/unfinished-rollouts.ts'
import { AWAY_MS } from './api/start-rollout.ts'
import { type Beginning, beginRollout, prepareRollout, recordOfNew } from './begin-rollout.ts'
import { type Member, memberOfHost } from './members.ts'
import type { NewPending, PendingHosts } from './pending-hosts.ts'
import type { Wait } from './plan/decision.ts'
import { LEAVES_BEHIND } from './plan/gates.ts'
import { planRollouts } from './plan/plan-rollouts.ts'
import type { RolloutRecord } from './plan/rollout-record.ts'
import { worthBeginning } from './plan/worth-beginning.ts'
import { waitsOfRow } from './read-record.ts'
import { readSnapshot, snapshotOf } from './read-snapshot.ts'
import {
  type Behind,
  type BehindDeps,
  CATCH_UP_REQUEST,
  type Stranded,
  whoIsBehind,
  whoIsStranded,
} from './who-is-behind.ts'

/** Rollouts that are begun in one run; the others follow. */
const MOST = 50

export type CatchUpDeps = BehindDeps & { readonly log: Logger; readonly pending: PendingHosts }

/** Hosts that catch up by one rollout, and the one that they catch up with. */
interface Followers {
  readonly behind: readonly [Behind, ...Behind[]]
  readonly source: RolloutRow
  readonly digest: string
}

/**
 * Begins rollouts for hosts that are behind and that are here now: those that one rollout left behind go together by another, under its
 * settings, so that canaries prove to them what they proved to nobody yet, and one that fails stops the others. Everybody goes through the
 * same gates as all did. Who would only be left behind again, such as a host that is locked, is not begun with before that is over. Says
 * how many rollouts were begun; why nothing is begun for the others stands in `pending`.
 */
export async function catchUp(deps: CatchUpDeps): Promise<number> {
  const { clock, log, pending } = deps
  if (deps.halted() !== undefined) return 0
  const waiting: NewPending[] = []
  const thought = []
  const behind = await whoIsBehind(deps)
  waiting.push(...(await whoIsStranded(deps)).map(strandedHost))
  for (const each of behind) if (each.alone) waiting.push(pendingOf(each, each.rollout, aloneWait(each)))
  const followersOf = await whoMayFollow(
    deps,
    behind.filter(({ alone }) => !alone),
    waiting,
  )
  for (const followers of followersOf) {
    if (thought.length >= MOST) break
    const members = await freeMembers(deps, followers, waiting)
    if (members.length === 0) continue
    const record = recordOfNew(
      await prepareRollout(deps, beginningOf(followers, members)),
      clock.now().getTime(),
    )
    thought.push({ id: record.id, hosts: record.hosts, record, followers, members })
  }
  const nowMs = clock.now().getTime()
  const begun = thought.length === 0 ? 0 : await beginWorthy(deps, thought, waiting, nowMs, log)
  pending.take(['apply', 'upgrade'], waiting, nowMs)
  return begun
}

interface Thought {
  readonly id: string
  readonly hosts: RolloutRecord['hosts']
  readonly record: RolloutRecord
  readonly followers: Followers
  readonly members: readonly Member[]
}

async function beginWorthy(
  deps: CatchUpDeps,
  thought: readonly Thought[],
  waiting: NewPending[],
  nowMs: number,
  log: Logger,
): Promise<number> {
  const { snapshot: open } = await readSnapshot(deps, nowMs)
  const records = [...open.rollouts, ...thought.map(({ record }) => record)]
  const decision = planRollouts(await snapshotOf(deps, records, nowMs), nowMs)
  const worth = worthBeginning(thought, decision)
  const left = await leftWaits(deps, thought)
  let begun = 0
  for (const { id, followers, members } of thought) {
    const find = (host: string) => followers.behind.find(one => one.host === host) ?? followers.behind[0]
    const able = members.filter(({ host }) => worth.get(id)?.has(host))
    for (const { host } of members) {
      if (worth.get(id)?.has(host)) continue
      const held = (decision.waits.get(id)?.get(host) ?? []).filter(({ gate }) =>
        LEAVES_BEHIND.includes(gate),
      )
      const since = (gate: Wait['gate']) => left.get(`${followers.source.id} ${host} ${gate}`)
      const waits = held.map(wait => ({ ...wait, sinceMs: since(wait.gate) }))
      waiting.push(pendingOf(find(host), '', ...waits))
    }
    if (able.length === 0) continue
    try {
      await beginRollout(deps, beginningOf(followers, able))
      begun += 1
    } catch (error) {
      // Another rollout has one of them, or its cluster, now: it is looked at again when that is over.
      const reason = cutText(reasonOf(error), 500)
      log.debug({ host: able[0]?.host, reason }, 'hosts do not catch up yet')
      const wait = { gate: 'busy', reason, opens: 'that is over' } as const
      for (const { host } of able) waiting.push(pendingOf(find(host), '', wait))
    }
  }
  return begun
}

/** Since when gates held hosts that were left behind, as it was taken down when their rollouts ended. */
async function leftWaits(
  { store: { db } }: CatchUpDeps,
  thought: readonly Thought[],
): Promise<ReadonlyMap<string, number>> {
  const rows = await hostsOfRollouts(
    db,
    thought.map(({ followers }) => followers.source.id),
  )
  return new Map(
    rows.flatMap(({ rollout, host, waits }) =>
      waitsOfRow(waits).map(({ gate, sinceMs }) => [`${rollout} ${host} ${gate}`, sinceMs] as const),
    ),
  )
}

function pendingOf(
  { host, machine, action, revision, rollout }: Behind,
  because: string,
  ...waits: NewPending['waits']
): NewPending {
  return { host, machine, action, revision, rollout, behind: because, waits }
}

function aloneWait({ rollout, alone }: Behind): NewPending['waits'][number] {
  return {
    gate: 'catch-up',
    reason: `rollout ${rollout}, by which it was to catch up, left it behind again`,
    opens: `it is ${new Date(alone?.untilMs ?? 0).toISOString()}`,
    sinceMs: alone?.fromMs,
  }
}

/** Who was to catch up by a rollout that went wrong is not tried again by itself. */
function strandedHost({ host, machine, ...of }: Stranded): NewPending {
  const { action, revision, rollout, state, reason, ended } = of
  const how = `rollout ${rollout}, by which it was to catch up, ${state === 'failed' ? 'failed' : 'was aborted'}`
  const why = cutText(`${how}${reason === '' ? '' : `: ${reason}`}`, 500)
  const opens = beginWords(action, revision, host)
  const waits = [{ gate: 'catch-up', reason: why, opens, sinceMs: ended ?? undefined }] as const
  return { host, machine, action, revision, rollout, behind: rollout, waits }
}

function beginWords(action: string, revision: number, host: string): string {
  const how = action === 'apply' ? '' : ` --action ${action}`
  return `somebody begins one for it: \`muster rollout start ${revision}${how} --host ${host}\``
}

/** Why hosts wait for those that catch up with the same before them. */
function othersWait(
  { action, revision, host }: Behind,
  { id, state, reason, started, ended }: UnprovedRollout,
): NewPending['waits'][number] {
  const what = `${action} revision ${revision}`
  if (state !== 'failed') {
    const why = `rollout ${id} (${what}) proves it first with others that were behind`
    return { gate: 'catch-up', reason: why, opens: 'that rollout is over', sinceMs: started }
  }
  return {
    gate: 'catch-up',
    reason: cutText(
      `rollout ${id} (${what}), by which others caught up, failed${reason === '' ? '' : `: ${reason}`}`,
      500,
    ),
    opens: beginWords(action, revision, host),
    sinceMs: ended ?? started,
  }
}

/**
 * Puts those together that go together. While some of a revision are proving it the others wait for these, where canaries are wanted; and
 * once some have failed nobody follows, unless failures are no reason to stop.
 */
async function whoMayFollow(
  { store: { db } }: CatchUpDeps,
  behind: readonly Behind[],
  waiting: NewPending[],
): Promise<readonly Followers[]> {
  if (behind.length === 0) return []
  const groups = new Map<string, [Behind, ...Behind[]]>()
  for (const each of behind) {
    const key = `${each.action} ${each.rollout} ${each.together ? '' : each.host}`
    const group = groups.get(key)
    if (group) group.push(each)
    else groups.set(key, [each])
  }
  const policy = (await newestRevision(db))?.manifest.rollout ?? DEFAULT_POLICY
  const tried = await unprovedRollouts(db, CATCH_UP_REQUEST.together)
  const followers: Followers[] = []
  for (const group of groups.values()) {
    const [{ action, rollout, revision, together }] = group
    const source = await findRollout(db, rollout)
    const found = await findRevision(db, revision)
    if (!source || !found) continue
    const { wantsCanaries, stops } = careOf(source, policy)
    const others = tried.filter(one => one.action === action && one.revision === revision)
    const holds = others.filter(({ state }) => (state === 'failed' ? stops : wantsCanaries))
    // One that failed says more than one that goes on.
    const held = holds.find(({ state }) => state === 'failed') ?? holds[0]
    if (!together || !held) followers.push({ behind: group, source, digest: found.manifest.digest })
    else for (const each of group) waiting.push(pendingOf(each, held.id, othersWait(each, held)))
  }
  return followers
}

/** How careful a rollout was: by what was asked for, else by the fleet's policy. */
function careOf({ asked }: RolloutRow, policy: RolloutPolicy) {
  const { settings } = fromBinary(StartRolloutRequestSchema, asked)
  const canaries = settings?.canaries.length || policy.canaries.length
  return {
    wantsCanaries: canaries > 0 || settings?.canarySize !== '' || policy.canarySize !== undefined,
    stops: (settings?.onFailure || policy.onFailure) !== 'continue',
  }
}

/** Those that no rollout has which is not over, nor their cluster. */
async function freeMembers(
  { store, directory }: CatchUpDeps,
  { behind }: Followers,
  waiting: NewPending[],
): Promise<readonly Member[]> {
  const members: Member[] = []
  for (const each of behind) {
    const { host, machine } = each
    const member = memberOfHost(directory, host, machine)
    const clusters = member.cluster === undefined ? [] : [member.cluster]
    const [other] = await rolloutsTouching(store.db, [host], clusters)
    if (!other) {
      members.push(member)
      continue
    }
    const what = other.host === host ? 'it' : `its cluster ${other.cluster}`
    waiting.push(
      pendingOf(each, other.rollout, {
        gate: 'busy',
        reason: `rollout ${other.rollout} has ${what}`,
        opens: 'that rollout is over',
        sinceMs: other.started,
      }),
    )
  }
  return members
}

function beginningOf({ behind, source, digest }: Followers, members: readonly Member[]): Beginning {
  const [{ action, rollout, revision, together }] = behind
  const { settings } = fromBinary(StartRolloutRequestSchema, source.asked)
  const hosts = members.map(({ host }) => host)
  const whom = members.length === 1 ? 'it' : 'them'
  // Those that go by themselves tell nothing of the others.
  const request = together ? CATCH_UP_REQUEST.together : CATCH_UP_REQUEST.alone
  return {
    asked: create(StartRolloutRequestSchema, {
      requestId: `${request}${rollout} ${sha256Hex(hosts.join(' ')).slice(0, 24)}`,
      action,
      revision: BigInt(revision),
      refs: hosts,
      why: `catches up with rollout ${rollout}, which left ${whom} behind`,
      settings: together && settings ? settings : create(RolloutSettingsSchema),
    }),
    action,
    revision: { number: revision, digest },
    members,
    direct: false,
    prefetch: true,
    awayMs: AWAY_MS,
    startedBy: 'coordinator',
    canariesElsewhere: true,
  }
}
