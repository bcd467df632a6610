import { reasonOf } from '../../shared/errors.ts'
import type { System } from '../system/system.ts'
import { bootedSystem } from '../system/system-links.ts'
import type { Units } from '../units/units.ts'
import { type ArmCore, type ArmRecord, readArmRecord } from './arm-record.ts'
import { leftUntil, readDeadline } from './deadline.ts'
import { doorsOf } from './machine-door.ts'
import { type ArmFolder, listArmFolders } from './operation-folder.ts'
import { type ReturnEnd, readReturnEnd } from './return-end.ts'
import { armDeadMan, armTimer, startReturn } from './return-unit.ts'
import { readBootTime } from './uptime.ts'
import { beginProof, claimReturned, readVerdict, type Verdict } from './verdict.ts'

/** What a boot finds of a change that was armed before. */
export interface BootFinding {
  /** Undefined: a newer program wrote it, and this one cannot read it. */
  readonly arm: ArmRecord | undefined
  readonly verdict: Verdict
  readonly end: ReturnEnd | undefined
  readonly bootId: string
  readonly booted: string | undefined
  /** The boot for which the dead man was armed last. */
  readonly armedFor: string | undefined
}

export type BootStep =
  /** Decided and done, or waiting for the next boot. */
  | { readonly kind: 'nothing' }
  /** Armed in this very boot, whose time goes on: only its timer may be gone. */
  | { readonly kind: 'keep' }
  /** The new system was booted for its trial: it has its time to prove itself. */
  | { readonly kind: 'arm' }
  /** Taken back already, but not to its end. */
  | { readonly kind: 'return' }
  /** Nobody can confirm any more: it is taken back, if anything is left to take back. */
  | { readonly kind: 'claim-and-return' }

/** Decides what a boot does with one armed change. */
export function judgeAtBoot({ arm, verdict, end, bootId, booted, armedFor }: BootFinding): BootStep {
  if (verdict.kind === 'confirmed' || verdict.kind === 'untouched') return { kind: 'nothing' }
  // What cannot be read was decided, and nobody can decide anew: what is known to be good comes back.
  if (verdict.kind === 'returned' || verdict.kind === 'unreadable') {
    return end === undefined || (end.kind === 'booting' && end.bootId !== bootId)
      ? { kind: 'return' }
      : { kind: 'nothing' }
  }
  // The agent of this system cannot read it either, so nobody is going to confirm it.
  if (arm === undefined) return { kind: 'claim-and-return' }
  if (bootId === armedFor) return { kind: 'keep' }
  // Once: a second boot without a word is a machine that keeps falling over.
  if (booted === arm.target && armedFor === arm.bootId) return { kind: 'arm' }
  return { kind: 'claim-and-return' }
}

/**
 * Run once at every boot, by a unit that is part of the system: transient timers are gone by then. Says what it did.
 */
export async function rearmAtBoot(stateDir: string, say: (line: string) => void): Promise<boolean> {
  let good = true
  for (const folder of await listArmFolders(stateDir)) {
    const reading = await readArmRecord(folder)
    if (reading.kind === 'missing') continue
    if (reading.kind === 'unreadable') {
      say(reading.reason)
      continue
    }
    try {
      if (reading.kind === 'newer') {
        say(`${reading.reason}: the program that wrote it walks back`)
        good =
          (await returnNewer(doorsOf(reading.core, stateDir), folder, reading.core, stateDir, say)) && good
        continue
      }
      good =
        (await settleAtBoot(doorsOf(reading.record, stateDir), folder, reading.record, stateDir, say)) && good
    } catch (error) {
      // One that cannot be settled must not keep the others from it.
      good = false
      say(`operation ${folder.operation}: ${reasonOf(error)}`)
    }
  }
  return good
}

interface Doors {
  readonly system: System
  readonly units: Units
}

/** Does what a boot has to do for one armed change; false: it could not, and is to be called again. */
export async function settleAtBoot(
  { system, units }: Doors,
  folder: ArmFolder,
  arm: ArmRecord,
  stateDir: string,
  say: (line: string) => void,
): Promise<boolean> {
  const now = await readBootTime(system)
  const deadline = await readDeadline(folder)
  const step = judgeAtBoot({
    arm,
    verdict: await readVerdict(folder),
    end: await readReturnEnd(folder),
    bootId: now.bootId,
    booted: await bootedSystem(system, arm.systemRoot),
    armedFor: deadline?.bootId,
  })
  say(`operation ${arm.operation}: ${step.kind}`)
  let problem: string | undefined
  switch (step.kind) {
    case 'nothing':
      return true
    case 'keep':
      // A soft reboot, or whoever isolates another target, ends timers and leaves the boot; and one may not have been started.
      problem = await armTimer(units, folder, arm, stateDir, (deadline && leftUntil(deadline, now)) ?? 0)
      // Of a timer that was ended the unit may be left; what it starts waits for the deadline by itself.
      if (problem !== undefined) problem = await startReturn(units, folder, arm, stateDir)
      break
    case 'arm':
      await beginProof(folder)
      problem = await armDeadMan(units, folder, arm, {
        stateDir,
        now,
        afterMs: arm.confirmMs + (deadline?.extendedMs ?? 0),
      })
      break
    case 'claim-and-return':
      await claimReturned(folder, { by: 'boot' })
      problem = await startReturn(units, folder, arm, stateDir)
      break
    case 'return':
      problem = await startReturn(units, folder, arm, stateDir)
      break
  }
  if (problem !== undefined) say(`operation ${arm.operation}: ${problem}`)
  return problem === undefined
}

/**
 * Does it for a change of which only a newer program can read what was armed, such as where the system that is tried is one of before: it is
 * taken back at once, by that program. False: it is to be called again.
 */
export async function returnNewer(
  { system, units }: Doors,
  folder: ArmFolder,
  arm: ArmCore,
  stateDir: string,
  say: (line: string) => void,
): Promise<boolean> {
  const step = judgeAtBoot({
    arm: undefined,
    verdict: await readVerdict(folder),
    end: await readReturnEnd(folder),
    bootId: (await readBootTime(system)).bootId,
    booted: await bootedSystem(system, arm.systemRoot),
    armedFor: (await readDeadline(folder))?.bootId,
  })
  say(`operation ${arm.operation}: ${step.kind}`)
  if (step.kind === 'nothing') return true
  // Where the newer one keeps its claims elsewhere, it claims what it takes back itself: nothing of this boot was armed.
  if (step.kind === 'claim-and-return') {
    await claimReturned(folder, { by: 'boot' }).catch((error: unknown) => say(reasonOf(error)))
  }
  const problem = await startReturn(units, folder, arm, stateDir)
  if (problem !== undefined) say(`operation ${arm.operation}: ${problem}`)
  return problem === undefined
}
