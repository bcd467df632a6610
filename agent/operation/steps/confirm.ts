import { reasonOf } from '../../../shared/errors.ts'
import { OutcomeClass, Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { pause, withDeadline } from '../../../shared/lifecycle.ts'
import { backoffMs } from '../../../shared/retry.ts'
import { leftUntil, readDeadline } from '../../safety/deadline.ts'
import { armFolder } from '../../safety/operation-folder.ts'
import { readBootTime } from '../../safety/uptime.ts'
import { readVerdict } from '../../safety/verdict.ts'
import { currentSystem } from '../../system/system-links.ts'
import { failed, STOPPED } from '../context.ts'
import type { ConfirmedBy } from '../journal-record.ts'
import { readProof } from '../proof-file.ts'
import { isLocal } from '../turns.ts'
import { judgeOwnProgram, type OwnProgram } from './own-program.ts'
import { AGAIN, type StepContext, type StepEnd } from './step-context.ts'
import { claimReturn } from './take-back.ts'

const MOST_PAUSE_MS = 5_000
const ANSWER_MS = 10_000

/**
 * Asks the coordinator until it answers or the time is up. The one way to be confirmed; where the fleet file says that
 * the gates alone decide, they have decided by now, and so they have where root ordered it here while the coordinator is away. Only
 * the new system's own agent comes as far as to ask.
 */
export async function confirm(context: StepContext): Promise<StepEnd> {
  const { deps, operation, phase, record, input } = context
  const { safety } = await readProof(deps.stateDir, operation)
  const result = await phase(Phase.CONFIRM, async ({ signal, say }) => {
    const ok = (by: ConfirmedBy, detail: string) => ({ kind: 'ok', value: by, detail }) as const
    const own = await settleOwnProgram(context, signal, say)
    if (own.kind === 'stopped') return STOPPED
    if (own.kind === 'other') return failed(OutcomeClass.UNKNOWN, own.reason)
    if (own.kind === 'unknown') return failed(OutcomeClass.UNCONFIRMED, own.reason)
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
        if (isRootsAlone(context))
          return ok('gates', 'root ordered it here while the coordinator is away: the gates alone decide')
        const answer = await ask(context, stop.signal)
        if (hand.signal.aborted) continue
        if (answer.confirmed) return ok('coordinator', 'the coordinator answered')
        if (answer.reason !== last) say(`not confirmed yet: ${answer.reason}`)
        last = answer.reason
        await pause(backoffMs(attempt, retryOf(context)), stop.signal)
      }
      return STOPPED
    } finally {
      signal.removeEventListener('abort', forward)
      stop.abort()
      await byHand
    }
  })
  if (result.kind === 'stopped') return result
  if (result.kind === 'failed' && result.class === OutcomeClass.UNKNOWN) {
    await claimReturn(context, { by: 'agent', class: result.class, reason: result.reason })
    return AGAIN
  }
  // Expired is final: an answer that came too late is none.
  if (result.kind === 'ok' && !(await isOver(context))) await record({ kind: 'confirmed', by: result.value })
  return AGAIN
}

/**
 * Whether nobody but root has a part in it. A coordinator that heard of the operation was there when it began: that it does not answer may well
 * be what the change did.
 */
function isRootsAlone({ deps, operation, input }: StepContext): boolean {
  const acknowledged = input.states().get(operation)?.acknowledged ?? 0
  return isLocal(operation) && acknowledged === 0 && !deps.link.connected()
}

/**
 * Only the program that the new system names may confirm, whoever is to say so. What cannot be told is asked again until the
 * time is up.
 */
async function settleOwnProgram(
  context: StepContext,
  signal: AbortSignal,
  say: (line: string) => void,
): Promise<OwnProgram | { readonly kind: 'stopped' }> {
  let last = ''
  for (let attempt = 0; !signal.aborted; attempt++) {
    const own = await judgeOwnProgram(context)
    if (own.kind !== 'unknown' || (await isOver(context))) return own
    if (own.reason !== last) say(`not confirmed yet: ${own.reason}`)
    last = own.reason
    await pause(backoffMs(attempt, retryOf(context)), signal)
  }
  return STOPPED
}

/** A change that waits is told of its answer within seconds. */
function retryOf({ deps }: StepContext) {
  const { firstMs, mostMs } = deps.config.retry
  return { firstMs, mostMs: Math.min(mostMs, MOST_PAUSE_MS) }
}

async function ask(
  { deps, operation, seen }: StepContext,
  signal: AbortSignal,
): Promise<{ readonly confirmed: boolean; readonly reason: string }> {
  if (!deps.link.connected()) return { confirmed: false, reason: 'the coordinator is not connected' }
  try {
    // As it is now: another system may have been switched to since this step began.
    const current = await currentSystem(deps.system, deps.config.systemRoot)
    const request = {
      operationId: operation,
      instance: deps.instance(),
      bootId: seen.now.bootId,
      storePath: current ?? '',
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
