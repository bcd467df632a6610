import { mkdir, rm, symlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { type ArmMode, type ArmRecord, writeArmRecord } from '../safety/arm-record.ts'
import { armFolder, prepareArmFolder } from '../safety/operation-folder.ts'
import { armDeadMan } from '../safety/return-unit.ts'
import { readBootTime } from '../safety/uptime.ts'
import { prepareClaims } from '../safety/verdict.ts'
import { currentSystem, profileSystem } from '../system/system-links.ts'
import type { StepContext } from './steps/step-context.ts'

/** Beyond the time of the switch and of its proof: what the agent needs around them. */
const MARGIN_MS = 120_000

export interface ArmInput {
  readonly target: string
  readonly mode: ArmMode
  readonly confirmMs: number
}

/**
 * Arms the way back: everything it needs is on disk, its roots are held, and its timer runs, before anything is touched.
 * Says what is in the way.
 */
export async function arm(
  context: StepContext,
  { target, mode, confirmMs }: ArmInput,
): Promise<string | undefined> {
  const { deps, operation, state, record } = context
  const { config, system, units, stateDir } = deps
  const [now, current, profile, failed] = await Promise.all([
    readBootTime(system),
    currentSystem(system, config.systemRoot),
    profileSystem(system, config.systemRoot),
    units.failed(),
  ])
  if (current === undefined) return '/run/current-system cannot be read'
  if (profile === undefined) return 'what the next boot starts cannot be read from the system profile'
  if (failed === undefined) return 'which units have failed cannot be asked'
  const number = (state.round?.number ?? 0) + 1
  const folder = armFolder(stateDir, operation, number)
  const recordOfArm: ArmRecord = {
    operation,
    round: number,
    mode,
    target,
    previous: current,
    profile: profile.storePath,
    generation: profile.generation,
    bootId: now.bootId,
    confirmMs,
    switchMs: config.switchDeadlineMs,
    program: deps.program,
    toolPath: config.toolPath,
    systemRoot: config.systemRoot,
    units: units.kind,
  }
  await rm(folder.path, { recursive: true, force: true })
  await prepareArmFolder(folder, stateDir)
  await prepareClaims(folder)
  await holdRoots(context, recordOfArm)
  await writeArmRecord(folder, recordOfArm)
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
    failedBefore: [...failed].slice(0, 500),
  })
  return undefined
}

/** Where the systems of an operation are held against the garbage collector: on disk, so that a reboot keeps them. */
export const rootsFolder = (systemRoot: string) => join(systemRoot, 'nix/var/nix/gcroots/muster')

async function holdRoots({ deps, operation }: StepContext, arm: ArmRecord): Promise<void> {
  const folder = rootsFolder(deps.config.systemRoot)
  await mkdir(folder, { recursive: true })
  const programs = arm.program.flatMap(word => /^(\/nix\/store\/[^/]+)/.exec(word)?.[1] ?? [])
  const held: Readonly<Record<string, string | undefined>> = {
    previous: arm.previous,
    profile: arm.profile,
    target: arm.target,
    program: programs[0],
    script: programs[1],
  }
  for (const [name, storePath] of Object.entries(held)) {
    if (storePath === undefined) continue
    const link = join(folder, `${operation}-${name}`)
    await mkdir(dirname(link), { recursive: true })
    await rm(link, { force: true })
    await symlink(storePath, link)
  }
}
