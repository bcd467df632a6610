import { mkdir, rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { syncDirectory } from '../../shared/durable-file.ts'
import type { RuntimeChange } from '../plan/runtime-change.ts'
import { isTargetPending } from '../plan/target-pending.ts'
import { type ArmedRuntime, type ArmMode, type ArmRecord, writeArmRecord } from '../safety/arm-record.ts'
import { startsNewest } from '../safety/boot-default.ts'
import { holdForChange } from '../safety/kubernetes-hold.ts'
import { armFolder, beginArmFolder } from '../safety/operation-folder.ts'
import { generationsOf } from '../safety/point-profile.ts'
import { armDeadMan } from '../safety/return-unit.ts'
import { readBootTime } from '../safety/uptime.ts'
import { prepareClaims } from '../safety/verdict.ts'
import { bootedSystem, currentSystem, type ProfileReading, profileSystem } from '../system/system-links.ts'
import type { KubernetesMove } from './journal-record.ts'
import type { StepContext } from './steps/step-context.ts'

/** Beyond the time of the switch and of its proof: what the agent needs around them. */
const MARGIN_MS = 120_000

export interface ArmInput {
  readonly target: string
  readonly mode: ArmMode
  readonly confirmMs: number
  /** What becomes of Kubernetes with the system; undefined: nothing. */
  readonly kubernetes: KubernetesMove | undefined
  /** What becomes of the container runtime; undefined: nothing. */
  readonly runtime: RuntimeChange | undefined
}

/**
 * Arms the way back: everything it needs is on disk, its roots are held, and its timer runs, before anything is touched.
 * Says what is in the way.
 */
export async function arm(
  context: StepContext,
  { target, mode, confirmMs, kubernetes, runtime }: ArmInput,
): Promise<string | undefined> {
  const { deps, operation, state, record } = context
  const { config, system, units, stateDir } = deps
  const [now, current, booted, profile, failed, unsteady] = await Promise.all([
    readBootTime(system),
    currentSystem(system, config.systemRoot),
    bootedSystem(system, config.systemRoot),
    profileSystem(system, config.systemRoot),
    units.failed(),
    units.unsteady(),
  ])
  if (current === undefined) return '/run/current-system cannot be read'
  if (profile === undefined) return 'what the next boot starts cannot be read from the system profile'
  if (failed === undefined || unsteady === undefined) return 'which units have failed cannot be asked'
  const number = (state.round?.number ?? 0) + 1
  const folder = armFolder(stateDir, operation, number)
  const recordOfArm: ArmRecord = {
    operation,
    round: number,
    mode,
    target,
    previous: current,
    ...(await defaultToKeep(context, { target, current, booted, profile })),
    ...(runtime && { runtime: await armedRuntime(context, runtime) }),
    bootId: now.bootId,
    confirmMs,
    switchMs: config.switchDeadlineMs,
    program: deps.program,
    toolPath: config.toolPath,
    systemRoot: config.systemRoot,
    units: units.kind,
  }
  await beginArmFolder(folder, stateDir)
  await prepareClaims(folder)
  await holdRoots(context, recordOfArm)
  await writeArmRecord(folder, recordOfArm)
  // Behind what lets it go again, and before anything can boot into the new system.
  if (kubernetes) await holdForChange(stateDir, operation)
  const afterMs =
    (mode === 'switch' ? config.switchDeadlineMs : config.bootDeadlineMs) + confirmMs + MARGIN_MS
  const problem = await armDeadMan(units, folder, recordOfArm, { stateDir, now, afterMs })
  if (problem !== undefined) return problem
  await record({
    kind: 'armed',
    round: number,
    mode,
    bootId: now.bootId,
    target,
    // One that dies again and again may well run at this moment, and is nobody's fault afterwards either.
    failedBefore: [...new Set([...failed, ...unsteady])].slice(0, 500),
    kubernetes,
  })
  return undefined
}

/** What was ready before must be so again. What was not, or of what nobody can say, need not: a change may be what mends it. */
async function armedRuntime({ deps, input }: StepContext, change: RuntimeChange): Promise<ArmedRuntime> {
  const { units, endpoint } = change
  const node = (await deps.kubernetes.readNode(input.signal)).kind === 'ready'
  if (endpoint === undefined) return { units, network: false, node }
  const conditions = await deps.kubernetes.runtimeConditions(endpoint)
  const network = conditions.kind === 'done' && conditions.value.get('NetworkReady')?.holds === true
  return { units, endpoint, network, node }
}

/** What stays the boot default until the new system has proved itself. */
async function defaultToKeep(
  { deps }: StepContext,
  {
    profile,
    ...systems
  }: {
    readonly target: string
    readonly current: string
    readonly booted: string | undefined
    readonly profile: ProfileReading
  },
): Promise<Pick<ArmRecord, 'profile' | 'generation' | 'defaultMoves'>> {
  if (!isTargetPending({ ...systems, profile: profile.storePath })) {
    return { profile: profile.storePath, generation: profile.generation }
  }
  const { system, config } = deps
  // A boot loader that always starts the newest generation is given a new one.
  const generation = (await startsNewest(system, config.systemRoot))
    ? undefined
    : (await generationsOf(system, config.systemRoot, systems.current)).at(-1)
  return { profile: systems.current, generation, defaultMoves: true }
}

/** Whose operation a link there is. */
export const ownerOfRoot = (name: string) =>
  name.replace(/-(previous|profile|target|program|script|tool-\d+)$/, '')

/** Folders of the tools' path that are held; a path has a dozen. */
const MOST_TOOLS = 100

/**
 * What the way back may need, by the name of its link: both systems, the program that walks it, and that program's tools,
 * which are those of the system that this agent was started from. A switch by hand may since have left that one behind.
 */
export function heldPaths(arm: ArmRecord): ReadonlyMap<string, string> {
  const storePath = (word: string) => /^(\/nix\/store\/[^/]+)/.exec(word)?.[1] ?? []
  const [program, script] = arm.program.flatMap(storePath)
  const tools = new Set(arm.toolPath.split(':').flatMap(storePath))
  return new Map([
    ...([
      ['previous', arm.previous],
      ['profile', arm.profile],
      ['target', arm.target],
    ] as const),
    ...(program === undefined ? [] : [['program', program] as const]),
    ...(script === undefined ? [] : [['script', script] as const]),
    ...[...tools].slice(0, MOST_TOOLS).map((tool, number) => [`tool-${number}`, tool] as const),
  ])
}

async function holdRoots({ deps, operation }: StepContext, arm: ArmRecord): Promise<void> {
  const folder = deps.config.rootsFolder
  await mkdir(folder, { recursive: true })
  for (const [name, storePath] of heldPaths(arm)) {
    const link = join(folder, `${operation}-${name}`)
    await rm(link, { force: true })
    await symlink(storePath, link)
  }
  await syncDirectory(folder)
}
