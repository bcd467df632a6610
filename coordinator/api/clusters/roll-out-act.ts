import { create, type MessageInitShape } from '@bufbuild/protobuf'
import type {
  StartClusterActRequest,
  StartClusterActResponseSchema,
} from '../../../shared/gen/muster/v1/cluster_pb.ts'
import { StartRolloutRequestSchema } from '../../../shared/gen/muster/v1/rollout_pb.ts'
import type { Logger } from '../../../shared/log.ts'
import { exists, notFound, precondition } from '../../../shared/rpc/rpc-error.ts'
import { findAct } from '../../clusters/acts/act-store.ts'
import type { ActVerdict, Grant } from '../../clusters/acts/judge-act.ts'
import type { ActAsk } from '../../clusters/acts/read-ask.ts'
import { ORDER_LIFETIME_MS } from '../../operations/order-lifetime.ts'
import { type BeginDeps, beginRollout } from '../../rollouts/begin-rollout.ts'
import { type Member, memberOfHost } from '../../rollouts/members.ts'
import type { CLUSTER_ACTIONS } from '../../rollouts/plan/rollout-record.ts'
import { allLocks } from '../../store/host-locks.ts'
import {
  findRollout,
  findRolloutByRequest,
  grantsOfRollouts,
  type RolloutRow,
  rolloutsTouching,
} from '../../store/rollouts.ts'
import { actorOf, type Caller } from '../caller.ts'
import { listProblems } from '../list-problems.ts'
import { describeAct } from './describe-act.ts'

export interface RollOutActDeps extends Pick<BeginDeps, 'store' | 'clock' | 'directory'> {
  readonly log: Logger
  readonly rollouts: Pick<BeginDeps, 'runner' | 'halted' | 'clusters'>
  /** Whether an act may be as things are; undefined: there is no such cluster. */
  readonly judgeAsk: (ask: ActAsk) => Promise<ActVerdict | undefined>
  /** How long its host is waited for; absent: as long as an order lives. */
  readonly orderLifetimeMs?: number
}

type Response = MessageInitShape<typeof StartClusterActResponseSchema>

/**
 * Judges an act that disrupts a host as it would be judged when it is begun, and gives it by a rollout of one action through the one
 * planner: it is begun at once where no gate holds it.
 */
export async function rollOutAct(
  deps: RollOutActDeps,
  action: (typeof CLUSTER_ACTIONS)[number],
  request: StartClusterActRequest,
  ask: ActAsk,
  caller: Caller,
): Promise<Response> {
  const { store, directory, clock, rollouts, log } = deps
  const known = await findRolloutByRequest(store.db, ask.requestId)
  if (known) return await repeated(deps, known, ask)
  // What is over is taken down as over first, so that a host is free as soon as what was done to it has ended.
  await rollouts.runner.runNow()
  const same = await sameWish(deps, ask)
  if (same) return await answerWith(deps, same)
  const verdict = await deps.judgeAsk(ask)
  if (!verdict) throw notFound(`cluster: the newest revision has no cluster ${ask.cluster}`)
  const problems = verdict.kind === 'refused' ? verdict.problems : await lockProblems(deps, ask.host)
  if (verdict.kind === 'refused' || problems.length > 0) {
    // Another call with the same id was faster: what stands in the way may be its own act.
    const faster = await findRolloutByRequest(store.db, ask.requestId)
    if (faster) return await repeated(deps, faster, ask)
    throw precondition(listProblems(problems))
  }
  const member = memberOf(deps, ask, verdict.grant)
  const row = await beginRollout(
    { store, directory, clock, ...rollouts },
    {
      asked: create(StartRolloutRequestSchema, {
        requestId: ask.requestId,
        action,
        refs: [member.host],
        act: { ...request, cluster: ask.cluster, requestId: '' },
      }),
      intent: ask.intent,
      action,
      revision: undefined,
      members: [member],
      direct: true,
      prefetch: false,
      awayMs: deps.orderLifetimeMs ?? ORDER_LIFETIME_MS,
      startedBy: actorOf(caller),
    },
  )
  log.info(
    { cluster: ask.cluster, act: ask.act, host: member.host, rollout: row.id },
    'cluster act asked for',
  )
  return await answerWith(deps, row)
}

/** Whoever asks again for what is not over yet follows it. */
async function sameWish(
  { store }: RollOutActDeps,
  { host, intent }: ActAsk,
): Promise<RolloutRow | undefined> {
  if (host === '') return undefined
  for (const { rollout } of await rolloutsTouching(store.db, [host], [])) {
    const row = await findRollout(store.db, rollout)
    if (row?.intent === intent) return row
  }
  return undefined
}

/** The host that it is done to, in the cluster that was named: also one that no revision names any more. */
function memberOf({ directory }: RollOutActDeps, { host, cluster }: ActAsk, { executor }: Grant): Member {
  // What is about the cluster is done to the server that does it.
  const name = host === '' ? (executor?.host ?? '') : host
  return { ...memberOfHost(directory, name, directory.machineOf(name)), cluster }
}

/** Rollouts pass a locked host by; who names it is told so at once. */
async function lockProblems({ store }: RollOutActDeps, host: string): Promise<readonly string[]> {
  const lock = (await allLocks(store.db)).find(each => each.host === host)
  return lock ? [`${host}: is locked (${lock.why}); \`muster unlock ${host}\` lets it be touched`] : []
}

async function repeated(deps: RollOutActDeps, row: RolloutRow, { intent }: ActAsk): Promise<Response> {
  if (row.intent !== intent) {
    throw exists('request_id: was used for another act already; use a new one for each intent')
  }
  return await answerWith(deps, row)
}

async function answerWith({ store }: RollOutActDeps, { id }: RolloutRow): Promise<Response> {
  const grants = await grantsOfRollouts(store.db, [id])
  const granted = grants.findLast(({ step, operation }) => step === 'act' && operation !== '')
  const act = granted && (await findAct(store.db, granted.operation))
  return { ...(act && { act: describeAct(act) }), rolloutId: id }
}
