import { reasonOf } from '../../shared/errors.ts'
import { Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { readArmRecord } from '../safety/arm-record.ts'
import { readDeadline } from '../safety/deadline.ts'
import { armFolder } from '../safety/operation-folder.ts'
import { readReturnEnd } from '../safety/return-end.ts'
import { readBootTime } from '../safety/uptime.ts'
import { readVerdict } from '../safety/verdict.ts'
import { bootedSystem, currentSystem } from '../system/system-links.ts'
import { conclude } from './conclude.ts'
import { type OperationsDeps, type PhaseContext, type PhaseResult, STOPPED } from './context.ts'
import { failureBefore, isBeforeActivation } from './failure-before.ts'
import { BROKEN_OFF, type OperationState } from './fold.ts'
import type { Journal } from './journal.ts'
import { nextStep, type Observed, type Step } from './next-step.ts'
import { act } from './steps/act.ts'
import { activate, watchActivation } from './steps/activate.ts'
import { confirm } from './steps/confirm.ts'
import { withGatesOfReturn } from './steps/gates-of-return.ts'
import { startKubernetes } from './steps/kubernetes.ts'
import { prepare } from './steps/prepare.ts'
import { promote } from './steps/promote.ts'
import { prove } from './steps/prove.ts'
import { reboot } from './steps/reboot.ts'
import { restartAgent } from './steps/restart-agent.ts'
import { AGAIN, type RunInput, type StepContext, type StepEnd } from './steps/step-context.ts'
import { awaitReturn, claimReturn } from './steps/take-back.ts'

const MAX_REASON_CHARS = 2000

/**
 * Takes one operation as far as this process can: to its outcome, or to where another process or boot goes on.
 * INVARIANTS: what is done next is decided from what is on disk and what the machine shows, afresh after every step; each
 * phase's start is on disk before it begins and its end after it; an outcome is written once.
 */
export async function runOperation(deps: OperationsDeps, journal: Journal, input: RunInput): Promise<void> {
  const operation = input.order.operationId
  for (;;) {
    const state = input.states().get(operation)
    if (!state || input.signal.aborted) return
    const seen = await observe(deps, state)
    const context = contextOf(deps, journal, input, state, seen)
    const end = await take(nextStep(state, seen), context)
    switch (end.kind) {
      case 'again':
        continue
      case 'stopped':
        return
      case 'conclude': {
        const conclusion = await withGatesOfReturn(context, end.conclusion)
        // It is concluded again by the process that comes.
        if (input.signal.aborted) return
        // Whoever follows the output stops at the outcome.
        input.lastLine()
        await conclude(context, conclusion)
        input.changed()
        return
      }
    }
  }
}

async function take(step: Step, context: StepContext): Promise<StepEnd> {
  switch (step.kind) {
    case 'finished':
      return { kind: 'stopped' }
    case 'conclude':
      return step
    case 'act':
      return await act(context)
    case 'prepare':
      // Else one that kills the agent in its first phase, which goes on as it was begun, would be begun for ever.
      if (context.state.running === Phase.VERIFY) {
        const detail = 'cut off, and begun again'
        await context.record({ kind: 'ended', phase: Phase.VERIFY, detail, exitCode: undefined })
      }
      return await prepare(context)
    case 'activate':
      return await activate(context)
    case 'watch-switch':
      return await watchActivation(context)
    case 'restart-agent':
      return await restartAgent(context)
    case 'reboot':
      return await reboot(context)
    case 'prove':
      return await prove(context)
    case 'confirm':
      return await confirm(context)
    case 'promote':
      return await promote(context)
    case 'kubernetes':
      return await startKubernetes(context)
    case 'claim-return':
      await claimReturn(context, step.claim)
      return AGAIN
    case 'await-return':
      return await awaitReturn(context)
  }
}

/** What the machine and the round's folder show now. */
async function observe(
  { system, stateDir, config, instance }: OperationsDeps,
  state: OperationState,
): Promise<Observed> {
  const folder = state.round && armFolder(stateDir, state.order.operationId, state.round.number)
  const [now, current, booted, verdict, returnEnd, deadline, armed] = await Promise.all([
    readBootTime(system),
    currentSystem(system, config.systemRoot),
    bootedSystem(system, config.systemRoot),
    folder ? readVerdict(folder) : ({ kind: 'none' } as const),
    folder && readReturnEnd(folder),
    folder && readDeadline(folder),
    folder && readArmRecord(folder),
  ])
  return {
    now,
    instance: instance(),
    current,
    booted,
    verdict,
    returnEnd,
    deadline,
    recordProblem:
      armed?.kind === 'missing'
        ? 'the record of what was armed is gone'
        : armed?.kind === 'unreadable'
          ? `the record of what was armed cannot be read: ${armed.reason}`
          : undefined,
    newerRecord: armed?.kind === 'newer' ? armed.reason : undefined,
  }
}

function contextOf(
  deps: OperationsDeps,
  journal: Journal,
  input: RunInput,
  state: OperationState,
  seen: Observed,
): StepContext {
  const operation = input.order.operationId
  const record: StepContext['record'] = async entry => {
    await journal.append({ ...entry, operation })
    input.changed()
  }
  const phase = async <T>(
    which: Phase,
    work: (context: PhaseContext) => Promise<PhaseResult<T>>,
  ): Promise<PhaseResult<T>> => {
    // A phase that this or an earlier process has begun goes on; it is not begun twice.
    if (input.states().get(operation)?.running !== which) await record({ kind: 'started', phase: which })
    const tried = await attempt(which, () =>
      work({ deps, operation, phase: which, signal: input.signal, say: input.say }),
    )
    // What fails while the agent stops was most likely cut off by that; it is begun again, which harms nothing here.
    const cut = tried.kind === 'failed' && input.signal.aborted && isBeforeActivation(which)
    const result = cut ? STOPPED : tried
    if (result.kind !== 'stopped') {
      const detail = (result.kind === 'ok' ? result.detail : result.reason).slice(0, MAX_REASON_CHARS)
      const exitCode = result.kind === 'failed' ? result.exitCode : undefined
      await record({ kind: 'ended', phase: which, detail, exitCode })
    } else if (input.signal.aborted && isBeforeActivation(which) && which !== Phase.ARM) {
      await record({ kind: 'ended', phase: which, detail: BROKEN_OFF, exitCode: undefined })
    }
    return result
  }
  return { deps, journal, input, operation, state, seen, record, phase }
}

/** A phase of the agent's that breaks is a failure of the operation, told as such. */
async function attempt<T>(phase: Phase, work: () => Promise<PhaseResult<T>>): Promise<PhaseResult<T>> {
  // Once the machine is touched, what breaks here is the agent's own trouble: it is tried again until the dead man decides.
  if (!isBeforeActivation(phase) || phase === Phase.ARM) return await work()
  try {
    return await work()
  } catch (error) {
    return { kind: 'failed', ...failureBefore(phase), reason: `the agent failed: ${reasonOf(error)}` }
  }
}
