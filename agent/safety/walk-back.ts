import { join } from 'node:path'
import { pause } from '../../shared/lifecycle.ts'
import { readGenerations } from '../plan/generations.ts'
import { removeGenerations } from '../plan/remove-generations.ts'
import { describeEnding, type System, succeeded } from '../system/system.ts'
import {
  bootedSystem,
  currentSystem,
  PROFILE,
  type ProfileReading,
  profileSystem,
} from '../system/system-links.ts'
import type { Units } from '../units/units.ts'
import type { ArmRecord } from './arm-record.ts'
import { leftUntil, readDeadline } from './deadline.ts'
import { letKubernetesGo } from './kubernetes-hold.ts'
import { tidyListsFor } from './lists.ts'
import { readStartMark } from './marks.ts'
import { type ArmFolder, slotPath } from './operation-folder.ts'
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
const PROFILE_MS = 60_000
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
    const end = await walkOnce(deps, folder, arm, before)
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
  if (await freeStaleLock(system, root, say)) return true
  while (performance.now() < untilMs && (await switchLockHolder(system, root)).kind === 'switch') {
    if (!(await pause(PAUSE_MS, signal))) return false
  }
  return true
}

/** The end stands before the boot is asked for: it may come at once. A boot that is refused is none to wait for. */
async function askForBoot(deps: WalkBackDeps, folder: ArmFolder, end: ReturnEnd): Promise<ReturnEnd> {
  const asked = await deps.units.reboot()
  if (asked.kind !== 'failed') return end
  const refused: ReturnEnd = {
    kind: 'failed',
    reason: `${end.reason}, but the reboot was refused: ${asked.reason}`,
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
    if (before?.kind !== 'booting' || before.bootId === now.bootId) {
      return { kind: 'booting', bootId: now.bootId, reason: `boots into ${arm.previous}` }
    }
    // Another boot would end here again.
    say('the machine booted the new system again: it is switched back as it runs')
  }

  const began = (await readStartMark(slotPath(folder, 'switch.start'))).kind !== 'unmarked'
  const freshlyBooted = now.bootId !== arm.bootId && booted === arm.previous
  const current = await currentSystem(system, root)
  if (!(current === arm.previous && (!began || freshlyBooted))) {
    const problem = await switchBack(deps, folder, arm)
    if (problem) {
      // What cannot be switched back to can still be booted: the next boot must not lead to what was never confirmed.
      const restored = await restoreBootDefault(deps, arm)
      if (restored !== undefined) say(restored)
      return problem
    }
  }
  const restored = await restoreBootDefault(deps, arm)
  if (restored !== undefined) return fail(restored)
  const after = await currentSystem(system, root)
  if (after === arm.previous) {
    if (arm.mode !== 'switch') await dropTrial(deps, arm)
    await letKubernetesGo(system, deps.stateDir, arm.operation, say)
  }
  return after === arm.previous
    ? { kind: 'returned', reason: `runs ${arm.previous}` }
    : fail(`/run/current-system is ${after ?? 'unreadable'}, not ${arm.previous}`)
}

/**
 * Takes the generation away that was made for a boot into the new system, and its boot entry. It is newer than the default:
 * a boot loader that keeps entries of the newest few only would lose the default's to a row of such trials.
 */
async function dropTrial({ system, say }: WalkBackDeps, arm: ArmRecord): Promise<void> {
  const reading = await readGenerations(system, arm.systemRoot)
  if (reading.kind === 'unknown' || arm.generation === undefined) return
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
      ? `generation ${removal.numbers.join(', ')}, made for the trial, is gone`
      : `the generation made for the trial stays: ${removal.reason}`,
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
  const root = arm.systemRoot
  const profile: ProfileReading | undefined = await profileSystem(system, root)
  const moved = profile?.storePath !== arm.profile
  if (!moved && arm.mode === 'switch') return undefined
  const problem = await writeBootLoader({ system, say }, arm, arm.profile)
  if (problem !== undefined) return `the boot entry of ${arm.profile} could not be written: ${problem}`
  if (arm.mode !== 'switch') await system.run('bootctl', ['set-oneshot', ''], { deadlineMs: PROFILE_MS })
  if (!moved) return undefined
  const path = join(root, PROFILE)
  const switched =
    arm.generation === undefined
      ? undefined
      : await system.run('nix-env', ['-p', path, '--switch-generation', String(arm.generation)], {
          deadlineMs: PROFILE_MS,
        })
  const back = await profileSystem(system, root)
  if (back?.storePath !== arm.profile) {
    const set = await system.run('nix-env', ['-p', path, '--set', arm.profile], { deadlineMs: PROFILE_MS })
    if (!succeeded(set.ending)) {
      return `the profile could not be set back to ${arm.profile}: ${describeEnding('nix-env', set.ending)}: ${lastLine(set.stderr || (switched?.stderr ?? ''))}`
    }
  }
  say(`the boot default is ${arm.profile} again`)
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
