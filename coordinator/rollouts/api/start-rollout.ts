import type { MessageInitShape } from '@bufbuild/protobuf'
import type {
  StartRolloutRequest,
  StartRolloutResponseSchema,
} from '../../../shared/gen/muster/v1/rollout_pb.ts'
import { exists, invalid, precondition } from '../../../shared/rpc/rpc-error.ts'
import { actorOf, type Caller } from '../../api/caller.ts'
import { listProblems } from '../../api/list-problems.ts'
import { readAsk } from '../../clusters/acts/read-ask.ts'
import type { FleetQueryDeps } from '../../queries/evaluate-fleet.ts'
import { requireRevision } from '../../revisions/describe-revision.ts'
import { findRollout, findRolloutByRequest } from '../../store/rollouts.ts'
import { actRequest, askedOfHost } from '../act-request.ts'
import { type BeginDeps, type Beginning, beginRollout } from '../begin-rollout.ts'
import { describeRollouts } from '../describe-rollout.ts'
import { dryRun } from '../dry-run.ts'
import type { Member } from '../members.ts'
import {
  CLUSTER_ACTIONS,
  isClusterAction,
  ROLLOUT_ACTIONS,
  type RolloutAction,
} from '../plan/rollout-record.ts'
import type { SnapshotDeps } from '../read-snapshot.ts'
import { intentOf } from '../start-rollout.ts'
import { requireRollout } from './find-rollout.ts'
import { selectHosts } from './select-hosts.ts'

export type StartDeps = BeginDeps & FleetQueryDeps & SnapshotDeps

/** How long a host that is away is waited for when nothing else is left to do. */
export const AWAY_MS = 10 * 60_000
const MAX_AFTER = 16

type Response = MessageInitShape<typeof StartRolloutResponseSchema>

/** Begins a rollout, or tells its whole order. */
export function startRollout(deps: StartDeps) {
  return async (request: StartRolloutRequest, caller: Caller): Promise<Response> => {
    const { store, clock } = deps
    const action = readAction(request)
    const known = request.dryRun ? undefined : await findRolloutByRequest(store.db, request.requestId)
    if (known) {
      if (known.intent !== intentOf(request)) {
        throw exists('request_id: was used for another rollout already; use a new one for each intent')
      }
      const [rollout] = await describeRollouts(store.db, [known], 'full', clock.now().getTime())
      return { ...(rollout && { rollout }) }
    }
    const { members, errors } = await selectHosts(deps, request)
    checkActs(deps, request, action, members)
    const revision = await revisionOf(deps, request, action)
    const beginning: Beginning = {
      asked: { ...request, after: await wholeIds(deps, request.after) },
      // As it was asked for: whoever repeats the request says the same starts of ids.
      intent: intentOf(request),
      action,
      revision,
      members,
      direct: false,
      prefetch: true,
      awayMs: AWAY_MS,
      startedBy: actorOf(caller),
    }
    if (request.dryRun) return { ...(await dryRun(deps, beginning)), errors: [...errors] }
    const begun = await beginRollout(deps, beginning)
    const row = (await findRollout(store.db, begun.id)) ?? begun
    const [rollout] = await describeRollouts(store.db, [row], 'full', clock.now().getTime())
    return { ...(rollout && { rollout }), errors: [...errors] }
  }
}

/** The ids of the rollouts that these begin. */
async function wholeIds({ store }: StartDeps, refs: readonly string[]): Promise<string[]> {
  const ids: string[] = []
  for (const ref of refs) ids.push((await requireRollout(store.db, ref, 'after')).id)
  return ids
}

function readAction(request: StartRolloutRequest): RolloutAction {
  const { requestId, after, why } = request
  if (!request.dryRun && (requestId === '' || requestId.length > 64)) {
    throw invalid('request_id: must be 1 to 64 characters, random for each intent')
  }
  if (after.length > MAX_AFTER) throw invalid(`after: at most ${MAX_AFTER} are allowed`)
  if (why.length > 1_000) throw invalid('why: longer than 1000 characters')
  const wanted = request.action === '' ? 'apply' : request.action
  const action = ROLLOUT_ACTIONS.find(known => known === wanted)
  if (!action) throw invalid(`action: must be one of ${ROLLOUT_ACTIONS.join(', ')}`)
  if (action !== 'rollback' && request.rollback) throw invalid('rollback: belongs to the action rollback')
  if (action === 'rollback' && request.rollback?.operationId && request.refs.length !== 1) {
    throw invalid('rollback.operation_id: is of one host; name that host alone')
  }
  if (action !== 'apply' && action !== 'upgrade' && request.revision !== 0n) {
    throw invalid(`revision: ${action} goes to none`)
  }
  if (isClusterAction(action) !== (request.act !== undefined)) {
    throw invalid(`act: is needed for ${CLUSTER_ACTIONS.join(', ')}, and for these alone`)
  }
  if (request.act?.dead)
    throw invalid('act.dead: a machine that is gone is in no rollout; ask for that leave alone')
  return action
}

/** Whether the act of each host is one that its cluster can be asked for, signature included. */
function checkActs(
  { clock }: StartDeps,
  request: StartRolloutRequest,
  action: RolloutAction,
  members: readonly Member[],
): void {
  if (!isClusterAction(action)) return
  const [strange] = Object.keys(request.signedOrders).filter(
    host => !members.some(each => each.host === host),
  )
  if (strange !== undefined)
    throw invalid(`signed_orders: ${strange.slice(0, 64)} is no host of this rollout`)
  const outside = members.filter(({ cluster }) => cluster === undefined).map(({ host }) => host)
  if (outside.length > 0) {
    throw precondition(listProblems(outside.slice(0, 20).map(host => `${host}: is in no cluster`)))
  }
  // Nothing is signed before the whole order was looked at.
  if (request.dryRun) return
  for (const { host, cluster = '' } of members) {
    const asked = askedOfHost(request, host)
    const act = actRequest({ id: 'asked', cluster, host, step: 'act', action, drainLimitMs: 60_000, asked })
    readAsk(act, clock.now())
  }
}

async function revisionOf(
  { store, clock }: StartDeps,
  { revision }: StartRolloutRequest,
  action: RolloutAction,
): Promise<Beginning['revision']> {
  if (action !== 'apply' && action !== 'upgrade') return undefined
  const { manifest } = await requireRevision(store.db, revision)
  const newest = await requireRevision(store.db, 0n)
  const problems: string[] = []
  if (manifest.expires <= clock.now()) {
    problems.push(
      `revision ${manifest.number} expired at ${manifest.expires.toISOString()}; sign it anew with \`muster publish --renew\``,
    )
  }
  if (manifest.number < newest.manifest.floor) {
    problems.push(
      `revision ${manifest.number} is below the fleet's floor ${newest.manifest.floor}: nodes refuse it`,
    )
  }
  if (problems.length > 0) throw precondition(listProblems(problems))
  return { number: manifest.number, digest: manifest.digest }
}
