import type { Clock } from '../../../shared/clock.ts'
import { cutText } from '../../../shared/cut-text.ts'
import type {
  AbortRolloutRequest,
  OverrideGateRequest,
  PauseRolloutRequest,
  ResumeRolloutRequest,
  Rollout,
} from '../../../shared/gen/muster/v1/rollout_pb.ts'
import { aborted, invalid, notFound, precondition } from '../../../shared/rpc/rpc-error.ts'
import { actorOf, type Caller } from '../../api/caller.ts'
import type { ChangeFeed } from '../../operations/change-feed.ts'
import { recordEvent } from '../../store/events.ts'
import {
  changeRollout,
  findRollout,
  hostsOfRollouts,
  putOverride,
  type RolloutRow,
} from '../../store/rollouts.ts'
import type { Store } from '../../store/store.ts'
import { describeRollouts } from '../describe-rollout.ts'
import { GATES, OVERRIDABLE } from '../plan/decision.ts'
import type { RolloutRunner } from '../runner.ts'
import { whatItDoes } from '../what-it-does.ts'
import { requireRollout } from './find-rollout.ts'
import { readWhy } from './locks.ts'

export interface ChangeDeps {
  readonly store: Store
  readonly clock: Clock
  readonly rolloutFeed: ChangeFeed
  readonly runner: Pick<RolloutRunner, 'runNow'>
}

interface Answer {
  readonly rollout: Rollout
}
type Change = Parameters<typeof changeRollout>[2]

/** Begins nothing new from this moment. */
export function pauseRollout(deps: ChangeDeps) {
  return async ({ id, why }: PauseRolloutRequest, caller: Caller): Promise<Answer> =>
    await change(deps, id, caller, 'paused', why, row => {
      if (row.state === 'running') return { state: 'paused', reason: reasonOf(caller, 'paused', why) }
      return whyNot(row, 'paused')
    })
}

export function resumeRollout(deps: ChangeDeps) {
  return async ({ id }: ResumeRolloutRequest, caller: Caller): Promise<Answer> =>
    await change(deps, id, caller, 'resumed', '', row =>
      row.state === 'paused' ? { state: 'running', reason: '' } : whyNot(row, 'resumed'),
    )
}

/** Ends a rollout; what was begun goes to its end. */
export function abortRollout(deps: ChangeDeps) {
  return async ({ id, why }: AbortRolloutRequest, caller: Caller): Promise<Answer> =>
    await change(deps, id, caller, 'aborted', why, row => {
      const isOpen = row.state === 'running' || row.state === 'paused' || row.state === 'ending'
      if (!isOpen) return whyNot(row, 'aborted')
      return { state: 'ending', ends_as: 'aborted', reason: reasonOf(caller, 'aborted', why) }
    })
}

/** Opens one gate for one host. */
export function overrideGate(deps: ChangeDeps) {
  return async (request: OverrideGateRequest, caller: Caller): Promise<Answer> => {
    const { store, clock } = deps
    const gate = GATES.find(known => known === request.gate)
    if (!gate) throw invalid(`gate: must be one of ${OVERRIDABLE.join(', ')}`)
    if (!OVERRIDABLE.includes(gate)) {
      const cure = gate === 'quarantine' ? `; the node itself refuses: \`muster retry ${request.host}\`` : ''
      throw precondition(
        `gate: ${gate} cannot be opened by a word${cure}; these can: ${OVERRIDABLE.join(', ')}`,
      )
    }
    const why = readWhy(request.why)
    const { id } = await requireRollout(store.db, request.id)
    const hosts = await hostsOfRollouts(store.db, [id])
    if (!hosts.some(({ host }) => host === request.host)) {
      throw notFound(`host: rollout ${id} has no host ${request.host}`)
    }
    const by = actorOf(caller)
    return await change(
      deps,
      id,
      caller,
      `gate ${gate} opened for ${request.host}`,
      why,
      row => (row.ended === null ? {} : whyNot(row, 'changed')),
      async tx =>
        await putOverride(tx, {
          rollout: id,
          host: request.host,
          gate,
          at: clock.now().getTime(),
          by_whom: by,
          why,
        }),
    )
  }
}

function reasonOf(caller: Caller, word: string, why: string): string {
  return `${word} by ${actorOf(caller)}${why.trim() === '' ? '' : `: ${cutText(why.trim(), 256)}`}`
}

function whyNot({ id, state }: RolloutRow, word: string): string {
  return `rollout ${id} is ${state} and cannot be ${word}`
}

/** Changes a rollout in one transaction, also while the planner is at it: what was thought before counts no more. */
async function change(
  deps: ChangeDeps,
  ref: string,
  caller: Caller,
  what: string,
  why: string,
  decide: (row: RolloutRow) => Change | string,
  also?: (tx: Parameters<Parameters<Store['transact']>[0]>[0]) => Promise<void>,
): Promise<Answer> {
  const { store, clock, rolloutFeed, runner } = deps
  const { id } = await requireRollout(store.db, ref)
  const now = clock.now()
  const problem = await store.transact(async tx => {
    const row = await findRollout(tx, id)
    if (!row) return `there is no rollout ${id}`
    const decided = decide(row)
    if (typeof decided === 'string') return decided
    if (!(await changeRollout(tx, row, decided)))
      throw aborted('the rollout was changed meanwhile; try again')
    await also?.(tx)
    const text = `rollout ${id} (${whatItDoes(row)}): ${what}${why.trim() === '' ? '' : `: ${cutText(why.trim(), 256)}`}`
    await recordEvent(tx, { at: now, class: 'rollout', reason: text, actor: actorOf(caller) })
    return undefined
  })
  if (problem !== undefined) throw precondition(problem)
  rolloutFeed.notify(id)
  await runner.runNow()
  const row = await requireRollout(store.db, id)
  const [rollout] = await describeRollouts(store.db, [row], 'full', clock.now().getTime())
  if (!rollout) throw new Error(`rollout ${id} is gone`)
  return { rollout }
}
