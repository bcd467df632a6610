import { join } from 'node:path'
import { reasonOf } from '../../shared/errors.ts'
import { pause } from '../../shared/lifecycle.ts'
import { readGenerations } from '../plan/generations.ts'
import { removeGenerations } from '../plan/remove-generations.ts'
import { describeEnding, type System, succeeded } from '../system/system.ts'
import { bootedSystem, currentSystem, PROFILE, profileSystem } from '../system/system-links.ts'
import type { Units } from '../units/units.ts'
import type { ArmRecord } from './arm-record.ts'
import { startsNewest, whyNotDefault } from './boot-default.ts'
import { restartOldRuntime } from './container-runtime.ts'
import { leftUntil, readDeadline } from './deadline.ts'
import { letKubernetesGo } from './kubernetes-hold.ts'
import { tidyListsFor } from './lists.ts'
import { readStartMark } from './marks.ts'
import { clearChoice } from './one-shot.ts'
import { type ArmFolder, slotPath } from './operation-folder.ts'
import { generationsOf, pointProfile } from './point-profile.ts'
import { type ReturnEnd, readReturnEnd, writeReturnEnd } from './return-end.ts'
import { clearSlot } from './slot.ts'
import { clearStaleLoader } from './stale-loader.ts'
import { freeStaleLock, switchLockHolder } from './switch-lock.ts'
import { switchUnit, unitName, watchSwitch } from './switch-unit.ts'
import { readBootTime } from './uptime.ts'
import { claimOver, claimReturned, readVerdict } from './verdict.ts'

export interface WalkBackDeps {
  readonly stateDir: string
  readonly system: System
  readonly units: Units
  readonly say: (line: string) => void
  readonly signal: AbortSignal
}

const ATTEMPTS = 5
const PAUSE_MS = 2_000
/** How long what is left of the switch forward may take to go, and after which time that is told. */
const GONE_MS = 120_000
const SOON_MS = 5_000
const LOOK_MS = 500
/** So often a deadline may turn out to have been replaced just as it was over. */
const MOST_MISSES = 5

/**
 * The one way back, whoever starts it: the agent that found a failure, a timer whose time is up, or a boot.
 * INVARIANTS: nothing is taken back that is confirmed, nor before its deadline unless somebody decided so; no step back
 * begins while anything of the switch forward lives; the way leads to the recorded store path and nowhere else, by its
 * own program; it may be killed between any two lines and is then walked again from the start.
 */
export async function walkBack(
  deps: WalkBackDeps,
  folder: ArmFolder,
  arm: ArmRecord,
): Promise<ReturnEnd | 'nothing' | 'stopped'> {
  const decided = await decide(deps, folder)
  if (decided !== 'returned') return decided
  const before = await readReturnEnd(folder)
  if (before?.kind === 'returned') return before
  const patienceMs = performance.now() + arm.switchMs
  for (let attempt = 1; ; attempt++) {
    const end = await walkOnce(deps, folder, arm, before).catch(brokenOff)
    // What fails while it is stopped was cut off by that.
    if (end.kind === 'failed' && deps.signal.aborted) return 'stopped'
    deps.say(`${end.kind}: ${end.reason}`)
    // An end is for good: whoever waits for it goes on at once, so one that is tried again is none yet.
    if (end.kind !== 'failed' || attempt === ATTEMPTS) {
      await writeReturnEnd(folder, end)
      return end.kind === 'booting' ? await askForBoot(deps, folder, end) : end
    }
    if (!(await pause(PAUSE_MS * attempt, deps.signal))) return 'stopped'
    if (!(await whileLocked(deps, arm, patienceMs))) return 'stopped'
  }
}

/**
 * Waits for another switch to come to its end, such as one by hand: it may hold the program's lock for longer than all tries
 * last. What holds the lock and is no switch is not waited for. False: the signal fired.
 */
async function whileLocked({ system, say, signal }: WalkBackDeps, arm: ArmRecord, untilMs: number) {
  const root = arm.systemRoot
  try {
    if (await freeStaleLock(system, root, say)) return true
  } catch (error) {
    say(`a lock that nobody holds may be in the way: ${reasonOf(error)}`)
  }
  while (performance.now() < untilMs && (await switchLockHolder(system, root)).kind === 'switch') {
    if (!(await pause(PAUSE_MS, signal))) return false
  }
  return true
}

/**
 * The end stands before the boot is asked for: it may come at once. No lock of a program on this machine keeps it in a system
 * that nobody confirmed. A boot that is refused all the same is none to wait for.
 */
async function askForBoot(
  { units, say }: WalkBackDeps,
  folder: ArmFolder,
  end: ReturnEnd,
): Promise<ReturnEnd> {
  let refusal = ''
  for (const how of ['past-locks', 'force'] as const) {
    const asked = await units.reboot(how)
    if (asked.kind !== 'failed') return end
    refusal = asked.reason
    say(`the reboot was refused: ${refusal}`)
  }
  const refused: ReturnEnd = {
    kind: 'failed',
    reason: `${end.reason}, but the reboot was refused: ${refusal}`,
    exitCode: undefined,
  }
  await writeReturnEnd(folder, refused)
  return refused
}

/** Waits until the change may be taken back, or is confirmed. */
async function decide(
  { system, signal }: WalkBackDeps,
  folder: ArmFolder,
): Promise<'returned' | 'nothing' | 'stopped'> {
  for (let misses = 0; ; ) {
    const verdict = await readVerdict(folder)
    if (verdict.kind === 'confirmed' || verdict.kind === 'untouched') return 'nothing'
    // What cannot be read was decided; what is known to be good comes back.
    if (verdict.kind !== 'none') return 'returned'
    const deadline = await readDeadline(folder)
    const left = deadline && leftUntil(deadline, await readBootTime(system))
    if (left !== undefined && left > 0) {
      if (!(await pause(Math.min(left, LOOK_MS), signal))) return 'stopped'
      continue
    }
    // Without a readable deadline, or after a boot, the timer that started this has waited long enough.
    const claimed =
      deadline === undefined || left === undefined || misses >= MOST_MISSES
        ? await claimReturned(folder, { by: 'deadline' })
        : await claimOver(folder, deadline.of)
    if (claimed.kind !== 'none') continue
    misses += 1
    if (!(await pause(LOOK_MS, signal))) return 'stopped'
  }
}

/** What breaks on the way, such as a full /run, is a try that failed: nobody else would go on. */
const brokenOff = (error: unknown): ReturnEnd => ({
  kind: 'failed',
  reason: `the way back broke off: ${reasonOf(error)}`,
  exitCode: undefined,
})

async function walkOnce(
  deps: WalkBackDeps,
  folder: ArmFolder,
  arm: ArmRecord,
  before: ReturnEnd | undefined,
): Promise<ReturnEnd> {
  const { system, units, say } = deps
  const root = arm.systemRoot
  const fail = (reason: string, exitCode?: number): ReturnEnd => ({ kind: 'failed', reason, exitCode })
  for (const forward of ['switch', 'boot'] as const) {
    const name = unitName(forward, folder)
    const soon = await units.stop(name, SOON_MS)
    if (soon.kind === 'gone') continue
    say(`the way back waits: ${soon.reason}`)
    const stopped = await units.stop(name, GONE_MS)
    if (stopped.kind === 'alive') return fail(`the way back cannot begin: ${stopped.reason}`)
  }

  const now = await readBootTime(system)
  const booted = await bootedSystem(system, root)
  if (arm.mode !== 'switch' && now.bootId !== arm.bootId && booted === arm.target) {
    const restored = await restoreBootDefault(deps, arm)
    if (restored !== undefined) return fail(restored)
    if (await startsNewest(system, root)) await dropTarget(deps, arm)
    if (before?.kind !== 'booting' || before.bootId === now.bootId) {
      return { kind: 'booting', bootId: now.bootId, reason: `boots into ${arm.previous}` }
    }
    // Another boot would end here again.
    say('the machine booted the new system again: it is switched back as it runs')
  }

  const began = (await readStartMark(slotPath(folder, 'switch.start'))).kind !== 'unmarked'
  const freshlyBooted = now.bootId !== arm.bootId && booted === arm.previous
  const current = await currentSystem(system, root)
  if (isOthers(arm, { current, began, bootId: now.bootId })) {
    const problem = await leaveToOthers(deps, arm)
    if (problem !== undefined) return fail(problem)
    await letKubernetesGo(system, deps.stateDir, arm.operation, say)
    const reason = `${current} runs, to which somebody else switched before this operation had begun to, and stays`
    return { kind: 'returned', reason }
  }
  if (!(current === arm.previous && (!began || freshlyBooted))) {
    const problem = await switchBack(deps, folder, arm)
    if (problem) {
      // What cannot be switched back to can still be booted: the next boot must not lead to what was never confirmed.
      const restored = await restoreBootDefault(deps, arm)
      if (restored !== undefined) say(restored)
      if (await startsNewest(system, root)) await dropTarget(deps, arm)
      return problem
    }
  }
  const restored = await restoreBootDefault(deps, arm)
  if (restored !== undefined) return fail(restored)
  const after = await currentSystem(system, root)
  if (after === arm.previous) {
    if (arm.mode !== 'switch' || (await startsNewest(system, root))) await dropTarget(deps, arm)
    const runtime = await restartOldRuntime(system, folder, arm, { bootId: now.bootId, booted })
    await letKubernetesGo(system, deps.stateDir, arm.operation, say)
    if (runtime !== undefined) {
      return fail(`runs ${arm.previous}, but its container runtime did not come back: ${runtime}`)
    }
  }
  return after === arm.previous
    ? { kind: 'returned', reason: `runs ${arm.previous} again` }
    : fail(`/run/current-system is ${after ?? 'unreadable'}, not ${arm.previous}`)
}

/**
 * Whether what runs came by another switch, such as one by hand, while nothing of this one had begun: then nothing is to be
 * taken back, and what was laid is the way to a system that somebody has left behind since.
 */
function isOthers(
  { mode, previous, target, bootId }: ArmRecord,
  now: { readonly current: string | undefined; readonly began: boolean; readonly bootId: string },
): boolean {
  if (now.began || now.current === undefined) return false
  // In another boot than the one that armed it, a trial is over.
  if (mode !== 'switch' && now.bootId !== bootId) return false
  return now.current !== previous && now.current !== target
}

/** Takes back of a trial that was being prepared what leads to its target. Says what went wrong. */
async function leaveToOthers(
  { system, say }: Pick<WalkBackDeps, 'system' | 'say'>,
  arm: ArmRecord,
): Promise<string | undefined> {
  if (arm.mode === 'switch') return undefined
  const root = arm.systemRoot
  const leadsThere =
    (await profileSystem(system, root))?.storePath === arm.target ||
    (await whyNotDefault(system, root, arm.target)) === undefined
  if (leadsThere) return await restoreBootDefault({ system, say }, arm)
  return arm.mode === 'trial' ? await clearChoice(system) : undefined
}

/**
 * Takes the generation away that was made of the new system, and its boot entry. It is newer than the default: a boot loader
 * that keeps entries of the newest few only would lose the default's to a row of such trials, and one that always starts
 * the newest would start it.
 */
async function dropTarget({ system, say }: WalkBackDeps, arm: ArmRecord): Promise<void> {
  const reading = await readGenerations(system, arm.systemRoot)
  // Where the target was installed for the next boot before, its generation is somebody else's.
  if (reading.kind === 'unknown' || arm.generation === undefined || arm.defaultMoves === true) return
  const { generations, profileNumber } = reading.value
  const least = arm.generation
  const remove = generations.filter(
    ({ number, path }) =>
      number > least && number !== profileNumber && path.kind === 'value' && path.value === arm.target,
  )
  if (remove.length === 0) return
  const removal = await removeGenerations({
    system,
    profile: join(arm.systemRoot, PROFILE),
    remove,
    bootDefault: arm.profile,
    deadlineMs: arm.switchMs,
    collectGarbage: false,
    // The way back has a unit of its own already.
    runBoot: toplevel => writeBootLoader({ system, say }, arm, toplevel),
  })
  say(
    removal.kind === 'removed'
      ? `generation ${removal.numbers.join(', ')}, made of the new system, is gone`
      : `the generation made of the new system stays: ${removal.reason}`,
  )
}

/** Runs the old system's own program, in a unit of its own. Undefined: it did what it should. */
async function switchBack(
  deps: WalkBackDeps,
  folder: ArmFolder,
  arm: ArmRecord,
): Promise<ReturnEnd | undefined> {
  const { system, units, say, signal } = deps
  const root = arm.systemRoot
  const name = unitName('back', folder)
  const left = await units.stop(name, GONE_MS)
  if (left.kind === 'alive') return { kind: 'failed', reason: left.reason, exitCode: undefined }
  const tidied = await tidyListsFor({ system, units, root }, arm.previous)
  if (tidied !== undefined) say(tidied)
  await clearSlot(slotPath(folder, 'back.start'))
  await clearSlot(slotPath(folder, 'back.end'))
  const started = await units.start(switchUnit(folder, arm, 'back', arm.previous))
  if (started.kind !== 'started') {
    const why = started.kind === 'failed' ? started.reason : `a unit ${name} is there already`
    return { kind: 'failed', reason: `the switch back could not be started: ${why}`, exitCode: undefined }
  }
  const seen = await watchSwitch({ system, units, root, say }, folder, 'back', arm.switchMs, signal)
  if (!seen) return { kind: 'failed', reason: 'the way back was broken off', exitCode: undefined }
  const exitCode = seen.end?.code === 'exited' ? Number(seen.end.status) : undefined
  // Units that fail in the old system are the old system's own: it is what is gone back to.
  const good = (exitCode === 0 || exitCode === 4) && seen.currentAfter === arm.previous
  if (good) return undefined
  const how = seen.overdue ?? (seen.end ? `${seen.end.code} ${seen.end.status}` : 'no word of how it ended')
  return {
    kind: 'failed',
    reason: `the switch back failed (${how}): /run/current-system is ${seen.currentAfter ?? 'unreadable'}`,
    exitCode,
  }
}

/**
 * Makes what was the boot default before the default again: the boot loader first, the profile after it, so that whoever
 * is killed in between finds the profile still moved and does both again. Says what went wrong.
 */
export async function restoreBootDefault(
  { system, say }: Pick<WalkBackDeps, 'system' | 'say'>,
  arm: ArmRecord,
): Promise<string | undefined> {
  // First: whatever fails after it, no boot leads into the new system by a choice that was never used up. And where it
  // fails the rest is done all the same, since the boot after that one goes by it.
  const chosen = arm.mode === 'trial' ? await clearChoice(system) : undefined
  const restored = await restoreWritten({ system, say }, arm)
  return chosen !== undefined && restored !== undefined ? `${chosen}; ${restored}` : (chosen ?? restored)
}

async function restoreWritten(
  { system, say }: Pick<WalkBackDeps, 'system' | 'say'>,
  arm: ArmRecord,
): Promise<string | undefined> {
  const root = arm.systemRoot
  const moved =
    (await profileSystem(system, root))?.storePath !== arm.profile ||
    (arm.target !== arm.profile && (await whyNotDefault(system, root, arm.target)) === undefined)
  if (!moved && arm.mode === 'switch' && arm.defaultMoves !== true) return undefined
  const point = async (): Promise<string | undefined> => {
    const pointed = await pointProfile(system, root, arm.profile, arm.generation)
    return pointed.kind === 'failed'
      ? `the profile could not be set back to ${arm.profile}: ${pointed.reason}`
      : undefined
  }
  // The installer makes the default only what has a generation, and a person may have had old ones collected. Whoever is killed
  // after it finds the boot loader still lead to the target.
  const hasOne = arm.generation !== undefined && (await generationsOf(system, root, arm.profile)).length > 0
  const first = hasOne ? undefined : await point()
  if (first !== undefined) return first
  const problem = await writeBootLoader({ system, say }, arm, arm.profile)
  if (problem !== undefined) {
    // A partition that takes no write, such as one with errors, mostly took none of the new system's either.
    if ((await whyNotDefault(system, root, arm.profile)) !== undefined) {
      return `the boot entry of ${arm.profile} could not be written: ${problem}`
    }
    say(`the boot loader could not be written, and starts ${arm.profile} as it is: ${problem}`)
  }
  const last = await point()
  if (last !== undefined) return last
  if (moved) say(`the boot default is ${arm.profile} again`)
  return undefined
}

/** Has a system's own program write the boot loader, with that system as the default. Says what went wrong. */
async function writeBootLoader(
  { system, say }: Pick<WalkBackDeps, 'system' | 'say'>,
  { systemRoot, switchMs, toolPath }: ArmRecord,
  toplevel: string,
): Promise<string | undefined> {
  await clearStaleLoader(system, systemRoot, say)
  const boot = await system.run(join(toplevel, 'bin/switch-to-configuration'), ['boot'], {
    deadlineMs: switchMs,
    env: { PATH: toolPath },
  })
  if (succeeded(boot.ending)) return undefined
  return `${describeEnding('switch-to-configuration boot', boot.ending)}: ${lastLine(boot.stderr)}`
}

function lastLine(text: string): string {
  return (text.trim().split('\n').at(-1) ?? '').slice(0, 300)
}
