import { readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { create } from '@bufbuild/protobuf'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import { hasCode, reasonOf } from '../../shared/errors.ts'
import { OutcomeClass, OutcomeSchema } from '../../shared/gen/muster/v1/operation_pb.ts'
import { outcomeName } from '../../shared/operation-names.ts'
import { readArmRecord } from '../safety/arm-record.ts'
import { letKubernetesGo } from '../safety/kubernetes-hold.ts'
import { armFolder, forgetOperations, listArmFolders } from '../safety/operation-folder.ts'
import { disarmDeadMan } from '../safety/return-unit.ts'
import { claimUntouched } from '../safety/verdict.ts'
import { currentSystem } from '../system/system-links.ts'
import { ownerOfRoot } from './arm.ts'
import { actionOf, type OperationState } from './fold.ts'
import type { Conclusion } from './next-step.ts'
import { quarantine } from './node-memory.ts'
import { removeSurplus } from './phases/make-room.ts'
import type { StepContext } from './steps/step-context.ts'

const MAX_REASON_CHARS = 2000
const GOOD: readonly OutcomeClass[] = [OutcomeClass.SUCCEEDED, OutcomeClass.DEGRADED]
const TOUCHED_NOTHING: readonly OutcomeClass[] = [
  OutcomeClass.BUSY,
  OutcomeClass.REBOOT_REQUIRED,
  OutcomeClass.REFUSED,
]
/** Operations whose folders stay, for a rollback to be proved by what they were proved by. */
const KEPT = 20
/** A target with which the machine was cut off so often is held to be the cause. */
const MOST_CUTS = 3

/**
 * Ends an operation. INVARIANTS: what the node must remember (quarantine) is on disk before the outcome, and nothing is armed any more: whoever
 * is killed after it does not come back to what is over; the outcome is written once, under the node's own signature; what is tidied up after
 * it may be tidied up again.
 */
export async function conclude(context: StepContext, conclusion: Conclusion): Promise<void> {
  const { deps, operation, state, input, record } = context
  await rememberFailure(context, conclusion)
  await disarmUnrecorded(context)
  await disarm(context)
  await letGo(context, conclusion)
  const { exitCode, firstCause, quarantine: _q, hold: _h, ...rest } = conclusion
  const outcome = create(OutcomeSchema, {
    ...rest,
    reason: rest.reason.slice(0, MAX_REASON_CHARS),
    ended: timestampFromDate(deps.clock.now()),
    simulated: [...deps.config.simulates],
    runs: (await currentSystem(deps.system, deps.config.systemRoot)) ?? '',
    ...(exitCode !== undefined && { exitCode }),
    ...(firstCause !== undefined && { firstCause }),
  })
  const signed = deps.sign({
    machine: deps.machineId,
    fleetId: deps.trust()?.set.fleetId ?? '',
    operationId: operation,
    revision: state.order.revision,
    manifestDigest: state.order.manifestDigest,
    outcome,
  })
  await record({ kind: 'outcome', outcome, signed })
  deps.log.info(
    { operationId: operation, outcome: outcomeName(rest.class), refusal: rest.refusal, reason: rest.reason },
    'operation ended',
  )
  try {
    await tidy(context, input.states())
    const settled = state.round !== undefined && GOOD.includes(rest.class)
    if (settled && deps.units.kind === 'systemd') {
      const rule = { keep: deps.config.keepGenerations, collectGarbage: false }
      input.say(
        await removeSurplus({ deps, operation, say: input.say, signal: input.signal }, input.states(), rule),
      )
    }
  } catch (error) {
    // The outcome stands; what is left over is tidied up after the next operation.
    deps.log.warn({ operationId: operation, err: reasonOf(error) }, 'leftovers of an operation remain')
  }
}

/**
 * Takes the edge off a round that was armed and is in no journal, because the agent failed or was killed between the two.
 * Nothing was touched in it, and nobody will ever confirm it: its timer, or the next boot, would take back what a later
 * operation or a person has changed since.
 */
async function disarmUnrecorded({ deps, operation, state }: StepContext): Promise<void> {
  for (const folder of await listArmFolders(deps.stateDir)) {
    if (folder.operation !== operation || folder.round <= (state.round?.number ?? 0)) continue
    if ((await readArmRecord(folder)).kind === 'missing') continue
    const reason = 'armed, but nothing was begun'
    await claimUntouched(folder, { class: OutcomeClass.UNKNOWN, refusal: '', reason, exitCode: undefined })
    await disarmDeadMan(deps.units, folder)
  }
}

/** Takes the timers of the last round away. What cannot be taken away finds that all is decided when its time comes. */
async function disarm({ deps, operation, state }: StepContext): Promise<void> {
  if (!state.round) return
  try {
    await disarmDeadMan(deps.units, armFolder(deps.stateDir, operation, state.round.number))
  } catch (error) {
    deps.log.warn({ operationId: operation, err: reasonOf(error) }, 'timers of an operation remain')
  }
}

/** Where it is known what runs, nothing keeps its Kubernetes down any longer. */
async function letGo({ deps, operation, input }: StepContext, { class: kind }: Conclusion): Promise<void> {
  if (kind === OutcomeClass.ROLLBACK_FAILED || kind === OutcomeClass.UNKNOWN) return
  await letKubernetesGo(deps.system, deps.stateDir, operation, input.say)
}

async function rememberFailure(
  { deps, operation, state, input }: StepContext,
  conclusion: Conclusion,
): Promise<void> {
  const { storePath, reason } = conclusion
  if (conclusion.hold) {
    const held = { reason: `operation ${operation}: ${reason}`.slice(0, 500), since: deps.clock.now() }
    await input.remember({ ...input.nodeMemory(), held })
  }
  if (storePath === '') return
  const blamed = conclusion.quarantine === true || cutTooOften(conclusion, [...input.states().values()])
  if (!blamed) return
  await input.remember(
    quarantine(input.nodeMemory(), {
      storePath,
      reason: reason.slice(0, 500),
      operation,
      revision: Number(state.order.revision),
      at: deps.clock.now(),
    }),
  )
}

/** One cut says nothing of the target; one after another does. */
export function cutTooOften(conclusion: Conclusion, states: readonly OperationState[]): boolean {
  if (conclusion.class !== OutcomeClass.ROLLED_BACK || conclusion.firstCause !== OutcomeClass.UNKNOWN)
    return false
  let cuts = 1
  for (const { order, storePath, outcome, round } of states.toReversed()) {
    // From there on it has all its tries again.
    if (outcome?.class === OutcomeClass.SUCCEEDED && actionOf(order) === 'retry') break
    // What switched to nothing, such as a plan, says nothing of the target.
    if (storePath !== conclusion.storePath || !outcome || !round || TOUCHED_NOTHING.includes(outcome.class))
      continue
    if (outcome.class !== OutcomeClass.ROLLED_BACK || outcome.firstCause !== OutcomeClass.UNKNOWN) break
    cuts += 1
  }
  return cuts >= MOST_CUTS
}

async function tidy(
  { deps, operation }: StepContext,
  states: ReadonlyMap<string, OperationState>,
): Promise<void> {
  const open = [...states].filter(([, state]) => !state.outcome).map(([id]) => id)
  const newest = [...states.keys()].slice(-KEPT)
  await forgetOperations(deps.stateDir, new Set([operation, ...open, ...newest]))
  const folder = deps.config.rootsFolder
  const names = await readdir(folder).catch((error: unknown) => {
    if (hasCode(error, 'ENOENT')) return []
    throw error
  })
  for (const name of names) {
    if (!open.includes(ownerOfRoot(name))) await rm(join(folder, name), { force: true })
  }
}
