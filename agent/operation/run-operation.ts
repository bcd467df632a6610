import { create } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import { reasonOf } from '../../shared/errors.ts'
import type { Assignment, Order } from '../../shared/gen/muster/v1/agent_pb.ts'
import type { Target } from '../../shared/gen/muster/v1/manifest_pb.ts'
import { OutcomeClass, OutcomeSchema, Phase } from '../../shared/gen/muster/v1/operation_pb.ts'
import { outcomeName } from '../../shared/operation-names.ts'
import type { KnownMemory } from '../../shared/revision/judge-revision.ts'
import type { KnownManifest } from '../../shared/revision/read-manifest.ts'
import { alreadyReached } from './already-reached.ts'
import {
  type OperationsDeps,
  type PhaseContext,
  type PhaseFailure,
  type PhaseResult,
  STOPPED,
} from './context.ts'
import { failureBefore, isBeforeActivation } from './failure-before.ts'
import { type OperationState, provenTime } from './fold.ts'
import type { Journal } from './journal.ts'
import { activate, currentSystem, inspectToplevel, profileSystem } from './phases/activate.ts'
import { buildTree } from './phases/build.ts'
import { fetchClosure, fetchTree } from './phases/fetch.ts'
import { preflight } from './phases/preflight.ts'
import { nixSystem, verify } from './phases/verify.ts'

const MAX_REASON_CHARS = 2000

export interface RunInput {
  readonly order: Order
  /** As the coordinator last told it; asked once the revision is here, for after a start it is told only then. */
  readonly assignment: () => Assignment
  /** What the journal holds of all operations, this one included. */
  readonly earlier: readonly OperationState[]
  readonly remembered: (memory: KnownMemory) => void
  readonly signal: AbortSignal
  readonly say: (line: string) => void
  /** No more output comes. */
  readonly lastLine: () => void
  /** Tells whoever reports that the journal grew. */
  readonly changed: () => void
}

/**
 * Takes one operation from its first phase to its outcome.
 * INVARIANTS: each phase's start is on disk before it begins and its end after it; an outcome is written once; without
 * one the operation is taken up again at the next start. Nothing of the machine is touched before ACTIVATE is recorded.
 */
export async function runOperation(deps: OperationsDeps, journal: Journal, input: RunInput): Promise<void> {
  const operation = input.order.operationId
  const phase = async <T>(
    which: Phase,
    work: (context: PhaseContext) => Promise<PhaseResult<T>>,
  ): Promise<PhaseResult<T>> => {
    await journal.append({ operation, kind: 'started', phase: which })
    input.changed()
    const tried = await attempt(which, () =>
      work({ deps, operation, phase: which, signal: input.signal, say: input.say }),
    )
    // What fails while the agent stops was most likely cut off by that; it is begun again, which harms nothing here.
    const cut = tried.kind === 'failed' && input.signal.aborted && isBeforeActivation(which)
    const result = cut ? STOPPED : tried
    if (result.kind !== 'stopped') {
      const detail = (result.kind === 'ok' ? result.detail : result.reason).slice(0, MAX_REASON_CHARS)
      const exitCode = result.kind === 'failed' ? result.exitCode : undefined
      await journal.append({ operation, kind: 'ended', phase: which, detail, exitCode })
      input.changed()
    }
    return result
  }
  const end = async (conclusion: Conclusion) => {
    // Whoever follows the output stops at the outcome.
    input.lastLine()
    await conclude(deps, journal, operation, conclusion)
    input.changed()
  }
  const fail = (which: Phase, failure: PhaseFailure, storePath = '') =>
    end({ ...failure, phase: which, storePath })

  const proven = provenTime(input.earlier)
  const now = () => latest(deps.clock.now(), proven)
  const verified = await phase(Phase.VERIFY, context =>
    verify(context, { order: input.order, assignment: input.assignment, now, remembered: input.remembered }),
  )
  if (verified.kind === 'stopped') return
  if (verified.kind === 'failed') return fail(Phase.VERIFY, verified)
  const { target, manifest, host, facts } = verified.value

  const previous = (await currentSystem({ deps })) ?? ''
  await journal.append({
    operation,
    kind: 'target',
    host,
    previous,
    targetDigest: digestOf(manifest, target),
  })

  const ready = await phase(Phase.PREFLIGHT, context => preflight(context, verified.value))
  if (ready.kind === 'stopped') return
  if (ready.kind === 'failed') return fail(Phase.PREFLIGHT, ready)

  const system = await produce(phase, manifest, target)
  if (system.result.kind === 'stopped') return
  if (system.result.kind === 'failed') return fail(system.phase, system.result)
  const storePath = system.result.value
  await journal.append({ operation, kind: 'system', storePath })

  const profile = await profileSystem({ deps })
  const others = input.earlier.filter(({ order }) => order.operationId !== operation)
  if (alreadyReached({ storePath, current: previous, profile, others })) {
    return await end({
      class: OutcomeClass.SUCCEEDED,
      refusal: '',
      reason: `already runs ${storePath}; nothing was done`,
      phase: Phase.PLAN,
      storePath,
    })
  }
  const plan = await phase(Phase.PLAN, async context => {
    const problem = await inspectToplevel(context, storePath, nixSystem(facts.cpu?.architecture))
    return (
      problem ?? {
        kind: 'ok',
        value: undefined,
        detail: `from ${previous || 'an unknown system'} to ${storePath}`,
      }
    )
  })
  if (plan.kind === 'stopped') return
  if (plan.kind === 'failed') return fail(Phase.PLAN, plan, storePath)
  if (input.signal.aborted) return

  const done = await phase(Phase.ACTIVATE, context => activate(context, storePath))
  if (done.kind === 'stopped') return
  if (done.kind === 'failed') return fail(Phase.ACTIVATE, done, storePath)
  await end({
    class: OutcomeClass.SUCCEEDED,
    refusal: '',
    reason: done.detail,
    phase: Phase.DONE,
    storePath,
  })
}

type RunPhase = <T>(
  which: Phase,
  work: (context: PhaseContext) => Promise<PhaseResult<T>>,
) => Promise<PhaseResult<T>>

/** Builds or fetches the system, whichever way the signed target names. */
async function produce(
  phase: RunPhase,
  manifest: KnownManifest,
  target: Target,
): Promise<{ readonly phase: Phase; readonly result: PhaseResult<string> }> {
  const { way } = target
  if (way.case === 'closure') {
    return {
      phase: Phase.FETCH,
      result: await phase(Phase.FETCH, context => fetchClosure(context, way.value)),
    }
  }
  const tree = await phase(Phase.FETCH, context => fetchTree(context, manifest))
  if (tree.kind !== 'ok') return { phase: Phase.FETCH, result: tree }
  const attribute = way.value?.attribute ?? ''
  return {
    phase: Phase.BUILD,
    result: await phase(Phase.BUILD, context => buildTree(context, tree.value, attribute)),
  }
}

function digestOf(manifest: KnownManifest, target: Target): string {
  return (target.group === '' ? manifest.hosts.get(target.host) : manifest.groups.get(target.group)) ?? ''
}

/** A bug in a phase ends the operation with an outcome that says so, not the agent. */
async function attempt<T>(phase: Phase, work: () => Promise<PhaseResult<T>>): Promise<PhaseResult<T>> {
  try {
    return await work()
  } catch (error) {
    return { kind: 'failed', ...failureBefore(phase), reason: `the agent failed: ${reasonOf(error)}` }
  }
}

function latest(a: Date, b: Date | undefined): Date {
  return b && b > a ? b : a
}

export interface Conclusion {
  readonly class: OutcomeClass
  readonly refusal: string
  readonly reason: string
  readonly exitCode?: number | undefined
  readonly phase: Phase
  readonly storePath: string
}

/** Writes the outcome. */
export async function conclude(
  deps: OperationsDeps,
  journal: Journal,
  operation: string,
  { exitCode, ...rest }: Conclusion,
): Promise<void> {
  const outcome = create(OutcomeSchema, {
    ...rest,
    reason: rest.reason.slice(0, MAX_REASON_CHARS),
    ended: timestampFromDate(deps.clock.now()),
    simulated: [...deps.config.simulates],
    ...(exitCode !== undefined && { exitCode }),
  })
  await journal.append({ operation, kind: 'outcome', outcome })
  deps.log.info(
    { operationId: operation, outcome: outcomeName(rest.class), refusal: rest.refusal, reason: rest.reason },
    'operation ended',
  )
}
