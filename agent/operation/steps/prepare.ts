import { create, toBinary } from '@bufbuild/protobuf'
import { type Target, TargetSchema } from '../../../shared/gen/muster/v1/manifest_pb.ts'
import { OutcomeClass, Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { PlanMode, PlanSchema } from '../../../shared/gen/muster/v1/plan_pb.ts'
import { sha256Hex } from '../../../shared/ids.ts'
import type { KnownManifest } from '../../../shared/revision/read-manifest.ts'
import { readSafety } from '../../gates/read-safety.ts'
import { makePlan } from '../../plan/make-plan.ts'
import { planMessage, type Refusal } from '../../plan/plan-message.ts'
import type { RuntimeChange } from '../../plan/runtime-change.ts'
import { canTry } from '../../safety/can-try.ts'
import { currentSystem, profileSystem } from '../../system/system-links.ts'
import { alreadyReached } from '../already-reached.ts'
import { arm } from '../arm.ts'
import { chooseMode } from '../choose-mode.ts'
import { failed, type PhaseFailure, type PhaseResult, refused, STOPPED } from '../context.ts'
import { actionOf } from '../fold.ts'
import type { KubernetesMove } from '../journal-record.ts'
import { findQuarantined } from '../node-memory.ts'
import { buildTree } from '../phases/build.ts'
import { fetchClosure, fetchTree } from '../phases/fetch.ts'
import { makeRoom, removeSurplus } from '../phases/make-room.ts'
import { preflight } from '../phases/preflight.ts'
import { findRollback } from '../phases/rollback.ts'
import { nixSystem } from '../phases/verify.ts'
import { writeProof } from '../proof-file.ts'
import { installFirst } from './install-first.ts'
import { judgeKubernetes, secureDatastore } from './kubernetes-move.ts'
import { beginProblem } from './may-begin.ts'
import { prepareRestart } from './prepare-restart.ts'
import { prepareUpgrade } from './prepare-upgrade.ts'
import { AGAIN, type StepContext, type StepEnd } from './step-context.ts'
import { digestOf, end, verifyRevision } from './verify-revision.ts'

/** What is to be reached, and by what it is proved. */
interface Wanted {
  readonly storePath: string
  readonly target: Target
  readonly treeDigest: string
  readonly host: string
  readonly system: string
}

/**
 * From the first phase to the armed dead man. Nothing of the machine is touched before that, and all of it can be done
 * again.
 */
export async function prepare(context: StepContext): Promise<StepEnd> {
  const { state, input, deps, record } = context
  if (actionOf(state.order) === 'upgrade') return await prepareUpgrade(context)
  if (actionOf(state.order) === 'restart') return await prepareRestart(context)
  const wanted =
    actionOf(state.order) === 'rollback' ? await prepareRollback(context) : await prepareRevision(context)
  if (!('storePath' in wanted)) return wanted
  await record({ kind: 'system', storePath: wanted.storePath })
  await writeProof(deps.stateDir, context.operation, wanted.target, wanted.treeDigest)
  const planned = await plan(context, wanted)
  if (!('mode' in planned)) return planned
  if (input.signal.aborted) return { kind: 'stopped' }
  const armed = await context.phase(Phase.ARM, async ({ signal }) => {
    const lacking = await secureDatastore(context, planned.kubernetes, signal)
    if (lacking) return lacking
    const problem = await arm(context, { target: wanted.storePath, ...planned })
    return problem === undefined
      ? {
          kind: 'ok',
          value: undefined,
          detail: `goes back by itself unless it is confirmed within ${Math.round(planned.confirmMs / 1_000)} s`,
        }
      : refused('not-armed', `the way back could not be armed: ${problem}; nothing was touched`)
  })
  if (armed.kind === 'stopped') return armed
  return armed.kind === 'failed' ? end(Phase.ARM, armed, wanted.storePath) : AGAIN
}

async function prepareRevision(context: StepContext): Promise<Wanted | StepEnd> {
  const { deps, phase, record } = context
  const verified = await verifyRevision(context, 'system')
  if (verified.kind === 'stopped') return verified
  if (verified.kind === 'failed') return end(Phase.VERIFY, verified)
  const { target, manifest, host, facts } = verified.value
  const previous = (await currentSystem(deps.system, deps.config.systemRoot)) ?? ''
  await record({ kind: 'target', host, previous, targetDigest: digestOf(manifest, target) })

  const ready = await phase(Phase.PREFLIGHT, inner =>
    preflight(inner, verified.value, target.way, 'nixos-rebuild'),
  )
  if (ready.kind === 'stopped') return ready
  if (ready.kind === 'failed') return end(Phase.PREFLIGHT, ready)

  const system = await produce(context, manifest, target)
  if (system.result.kind === 'stopped') return system.result
  if (system.result.kind === 'failed') return end(system.phase, system.result)
  const needsTree =
    target.way.case === 'source' || (target.safety?.gates ?? []).some(gate => gate.probe.case === 'script')
  return {
    storePath: system.result.value,
    target,
    treeDigest: needsTree ? manifest.manifest.treeDigest : '',
    host: target.group === '' ? host : '',
    system: nixSystem(facts.cpu?.architecture),
  }
}

/** Builds or fetches the system, whichever way the signed target names. */
async function produce(
  context: StepContext,
  manifest: KnownManifest,
  target: Target,
): Promise<{ readonly phase: Phase; readonly result: PhaseResult<string> }> {
  const { phase, input } = context
  const { way } = target
  const needsTree =
    way.case !== 'closure' || (target.safety?.gates ?? []).some(gate => gate.probe.case === 'script')
  const fetched = await phase(Phase.FETCH, async (inner): Promise<PhaseResult<string>> => {
    const room = await makeRoom(inner, way.case === 'closure' ? way.value : undefined, input.states())
    if (room) return room
    const tree = needsTree ? await fetchTree(inner, manifest) : undefined
    if (tree && tree.kind !== 'ok') return tree
    if (way.case !== 'closure') return tree ?? STOPPED
    return (await installFirst(context, inner, target, '')) ?? (await fetchClosure(inner, way.value))
  })
  if (way.case === 'closure' || fetched.kind !== 'ok') return { phase: Phase.FETCH, result: fetched }
  const attribute = way.value?.attribute ?? ''
  const result = await phase(Phase.BUILD, async inner => {
    // First, because a build keeps the one before it no longer from the garbage collector.
    const problem = await installFirst(context, inner, target, fetched.value)
    return problem ?? (await buildTree(inner, fetched.value, attribute))
  })
  return { phase: Phase.BUILD, result }
}

/** Finds the system that the order names in this node's own journal: never one generation back, and never a path given. */
async function prepareRollback(context: StepContext): Promise<Wanted | StepEnd> {
  const { deps, phase, record, state } = context
  const found = await phase(Phase.VERIFY, async inner => {
    const problem = await beginProblem(context)
    return problem ?? (await findRollback(inner, state.order, [...context.input.states().values()]))
  })
  if (found.kind === 'stopped') return found
  if (found.kind === 'failed') return end(Phase.VERIFY, found)
  const { storePath, target, treeDigest, host } = found.value
  const previous = (await currentSystem(deps.system, deps.config.systemRoot)) ?? ''
  await record({ kind: 'target', host, previous, targetDigest: sha256Hex(toBinary(TargetSchema, target)) })
  const facts = await deps.facts(context.input.signal)
  return { storePath, target, treeDigest, host, system: nixSystem(facts.cpu?.architecture) }
}

interface Planned {
  readonly kubernetes: KubernetesMove | undefined
  readonly runtime: RuntimeChange | undefined
  readonly mode: 'switch' | 'trial' | 'reboot'
  readonly confirmMs: number
}

/** Compares, and decides how the system is reached, before anything is touched. The program is never run for it. */
async function plan(context: StepContext, wanted: Wanted): Promise<Planned | StepEnd> {
  const { deps, input, phase, record, state, operation } = context
  const { config, system } = deps
  const { storePath } = wanted
  const safety = readSafety(wanted.target)
  const planOnly = actionOf(state.order) === 'plan'
  let message = create(PlanSchema)
  let kubernetes: KubernetesMove | undefined
  let runtime: RuntimeChange | undefined
  const result = await phase(Phase.PLAN, async inner => {
    const { signal } = inner
    const root = config.systemRoot
    const expected = { system: wanted.system, ...(wanted.host !== '' && { host: wanted.host }) }
    const simulated = deps.units.kind === 'processes'
    const question = {
      root,
      storeDir: config.storeDir,
      target: storePath,
      expected,
      signal,
      simulated,
      // A simulated machine keeps it beside the folder that stands for its root.
      ...(!simulated && { stateDir: deps.stateDir }),
      leavesRuntime: await deps.kubernetes.isForeign(signal),
    }
    let made = await makePlan(system, question)
    if (!planOnly && !simulated && made.problems.some(({ class: kind }) => isSpace(kind))) {
      // What is surplus goes before anything is refused for want of room, from the boot partition too.
      inner.say(await removeSurplus(inner, input.states(), { keep: 1, collectGarbage: true }))
      made = await makePlan(system, question)
    }
    if (signal.aborted) return STOPPED
    const others = [...input.states().values()].filter(({ order }) => order.operationId !== operation)
    const profile = (await profileSystem(system, root))?.storePath
    const reached = alreadyReached({ storePath, current: await currentSystem(system, root), profile, others })
    const choice = chooseMode({
      reached,
      reasons: made.reboot.reasons,
      safety,
      trial: await canTry(system, root),
      mayReboot: config.allow.includes('reboot'),
    })
    const refusals = reached ? [] : refusalsOf(context, made.problems, storePath)
    message = create(PlanSchema, planMessage(made, choice.mode, refusals))
    await record({ kind: 'plan', plan: message })
    // A plan alone removes nothing, and what is surplus may well be room enough.
    const problem = firstOf(planOnly ? refusals.filter(({ class: kind }) => !isSpace(kind)) : refusals)
    if (problem) return problem
    if (planOnly || reached) return { kind: 'ok', value: choice, detail: planText(message) }
    const moved = await judgeKubernetes(context, made.kubernetes, signal)
    if (moved.kind === 'failed') return moved
    kubernetes = moved.move
    runtime = made.runtime
    if (choice.mode === PlanMode.REBOOT_REQUIRED) {
      return failed(OutcomeClass.REBOOT_REQUIRED, `${choice.reason}; nothing was touched`)
    }
    return { kind: 'ok', value: choice, detail: planText(message) }
  })
  if (result.kind === 'stopped') return result
  if (result.kind === 'failed') return end(Phase.PLAN, result, storePath)
  const { mode } = result.value
  // To fetch or build it, generations that are surplus may have gone, as the output tells.
  if (planOnly) return succeed(`planned: ${planText(message)}; nothing that runs was touched`, storePath)
  if (mode === PlanMode.NOTHING) return succeed(`already runs ${storePath}; nothing was done`, storePath)
  return {
    mode: mode === PlanMode.TRIAL_BOOT ? 'trial' : mode === PlanMode.REBOOT ? 'reboot' : 'switch',
    confirmMs: safety.confirmWithinMs,
    kubernetes,
    runtime,
  }
}

/** What forbids it: the node's own configuration, what failed here before, and what the plan found. */
function refusalsOf(
  { deps, input }: StepContext,
  problems: readonly Refusal[],
  storePath: string,
): readonly Refusal[] {
  const known = findQuarantined(input.nodeMemory(), storePath)
  return [
    ...(deps.config.activation === 'never'
      ? [
          {
            class: 'not-allowed',
            reason: `built ${storePath}; activation is switched off on this node (option activation), nothing was touched`,
          },
        ]
      : []),
    ...(known
      ? [
          {
            class: 'quarantined',
            reason: `${storePath} failed here in operation ${known.operation}: ${known.reason}; \`muster retry\` lets it be tried again`,
          },
        ]
      : []),
    // A simulated machine has no units of its own whose states could be asked.
    ...problems.filter(({ class: kind }) => deps.units.kind === 'systemd' || !REAL_ONLY.has(kind)),
  ]
}

/** The first of them is the class of the refusal; the others are told with it. */
function firstOf([first, ...more]: readonly Refusal[]): PhaseFailure | undefined {
  if (!first) return undefined
  const others =
    more.length === 0 ? '' : ` (and ${more.length} more: ${more.map(({ reason }) => reason).join('; ')})`
  return refused(first.class, `${first.reason}${others}`)
}

const isSpace = (kind: string) => kind.startsWith('space-')
const REAL_ONLY = new Set(['logind', 'space-store', 'space-boot'])

function planText(message: {
  mode: PlanMode
  stops: string[]
  starts: string[]
  restarts: string[]
  reloads: string[]
}) {
  const { mode, stops, starts, restarts, reloads } = message
  const words: Readonly<Record<number, string>> = {
    [PlanMode.NOTHING]: 'nothing to do',
    [PlanMode.SWITCH]: 'switch',
    [PlanMode.TRIAL_BOOT]: 'trial boot',
    [PlanMode.REBOOT]: 'reboot',
    [PlanMode.REBOOT_REQUIRED]: 'reboot required',
  }
  return `${words[mode] ?? 'unknown'}; stops ${stops.length}, starts ${starts.length}, restarts ${restarts.length}, reloads ${reloads.length} units`
}

function succeed(reason: string, storePath: string): StepEnd {
  return {
    kind: 'conclude',
    conclusion: { class: OutcomeClass.SUCCEEDED, refusal: '', reason, phase: Phase.PLAN, storePath },
  }
}
