import { reasonOf } from '../../../shared/errors.ts'
import { OutcomeClass, Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { pause, withDeadline } from '../../../shared/lifecycle.ts'
import { backoffMs } from '../../../shared/retry.ts'
import { leftUntil, readDeadline } from '../../safety/deadline.ts'
import { armFolder } from '../../safety/operation-folder.ts'
import { readBootTime } from '../../safety/uptime.ts'
import { readVerdict } from '../../safety/verdict.ts'
import { failed, STOPPED } from '../context.ts'
import type { ConfirmedBy } from '../journal-record.ts'
import { readProof } from '../proof-file.ts'
import { AGAIN, type StepContext, type StepEnd } from './step-context.ts'

const MOST_PAUSE_MS = 5_000
const ANSWER_MS = 10_000

/**
 * Asks the coordinator until it answers or the time is up. The one way to be confirmed; where the fleet file says that
 * the gates alone decide, they have decided by now.
 */
export async function confirm(context: StepContext): Promise<StepEnd> {
  const { deps, operation, phase, record, input } = context
  const { safety } = await readProof(deps.stateDir, operation)
  const result = await phase(Phase.CONFIRM, async ({ signal, say }) => {
    const ok = (by: ConfirmedBy, detail: string) => ({ kind: 'ok', value: by, detail }) as const
    if (safety.confirmLocally) return ok('gates', 'the gates alone decide here')
    const hand = new AbortController()
    const stop = new AbortController()
    const forward = () => stop.abort(signal.reason)
    signal.addEventListener('abort', forward, { once: true })
    const byHand = input.confirmedByHand(stop.signal).then(
      () => {
        hand.abort()
        stop.abort()
      },
      () => {},
    )
    try {
      let last = ''
      for (let attempt = 0; !signal.aborted; attempt++) {
        if (hand.signal.aborted) return ok('hand', 'confirmed by root on this machine')
        if (await isOver(context)) return failed(OutcomeClass.UNCONFIRMED, 'no answer in time')
        const answer = await ask(context, stop.signal)
        if (hand.signal.aborted) continue
        if (answer.confirmed) return ok('coordinator', 'the coordinator answered')
        if (answer.reason !== last) say(`not confirmed yet: ${answer.reason}`)
        last = answer.reason
        const { firstMs, mostMs } = deps.config.retry
        await pause(backoffMs(attempt, { firstMs, mostMs: Math.min(mostMs, MOST_PAUSE_MS) }), stop.signal)
      }
      return STOPPED
    } finally {
      signal.removeEventListener('abort', forward)
      stop.abort()
      await byHand
    }
  })
  if (result.kind === 'stopped') return result
  // Expired is final: an answer that came too late is none.
  if (result.kind === 'ok' && !(await isOver(context))) await record({ kind: 'confirmed', by: result.value })
  return AGAIN
}

async function ask(
  { deps, operation, state, seen }: StepContext,
  signal: AbortSignal,
): Promise<{ readonly confirmed: boolean; readonly reason: string }> {
  if (!deps.link.connected()) return { confirmed: false, reason: 'the coordinator is not connected' }
  try {
    const request = {
      operationId: operation,
      instance: deps.instance(),
      bootId: seen.now.bootId,
      storePath: state.round?.target ?? '',
    }
    return await withDeadline(ANSWER_MS, signal, inner => deps.link.confirmOperation(request, inner))
  } catch (error) {
    return { confirmed: false, reason: reasonOf(error) }
  }
}

async function isOver({ deps, operation, state }: StepContext): Promise<boolean> {
  const folder = armFolder(deps.stateDir, operation, state.round?.number ?? 0)
  if ((await readVerdict(folder)).kind !== 'none') return true
  const deadline = await readDeadline(folder)
  return deadline !== undefined && leftUntil(deadline, await readBootTime(deps.system)) === 0
}
