import { link, mkdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { readFileIfThere, syncDirectory, writeFileDurably } from '../../shared/durable-file.ts'
import { hasCode, reasonOf } from '../../shared/errors.ts'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import type { Deadline } from './deadline.ts'
import { type ArmFolder, slotPath } from './operation-folder.ts'
import { readSlot, writeSlot } from './slot.ts'

/** Why a change is taken back. The agent says its cause; a timer and a boot can only say that it was not confirmed. */
export type ReturnClaim =
  | { readonly by: 'agent'; readonly class: OutcomeClass; readonly reason: string }
  | { readonly by: 'deadline' }
  | { readonly by: 'boot' }

export interface UntouchedClaim {
  readonly class: OutcomeClass
  readonly refusal: string
  readonly reason: string
  readonly exitCode: number | undefined
}

/**
 * What was decided of a change: once, for good. Whoever links the file first has decided; the agent that got its
 * confirmation and the dead man whose time is up may try at the same instant, and one of them finds the name taken.
 */
export type Verdict =
  | { readonly kind: 'none' }
  | { readonly kind: 'confirmed' }
  | { readonly kind: 'returned'; readonly claim: ReturnClaim }
  /** It failed before anything was changed: there is nothing to take back. */
  | ({ readonly kind: 'untouched' } & UntouchedClaim)
  | { readonly kind: 'unreadable'; readonly reason: string }

const VERDICT = 'verdict'
const CONFIRMED = 'claim.confirmed'
const DEADLINE = 'claim.deadline'
/** What the claim above is called while a promotion runs. */
const LATE = 'claim.late'
const BOOT = 'claim.boot'

/** Writes the claims that need no words of their own, so that claiming takes no space. */
export async function prepareClaims(folder: ArmFolder): Promise<void> {
  await mkdir(folder.path, { recursive: true, mode: 0o700 })
  await writeFileDurably(join(folder.path, CONFIRMED), claimText({ kind: 'confirmed' }))
  await writeFileDurably(
    join(folder.path, DEADLINE),
    claimText({ kind: 'returned', claim: { by: 'deadline' } }),
  )
  await writeFileDurably(join(folder.path, BOOT), claimText({ kind: 'returned', claim: { by: 'boot' } }))
}

/** Says that the change is confirmed, unless something was decided before. What counts in the end. */
export async function claimConfirmed(folder: ArmFolder): Promise<Verdict> {
  return await claim(folder, CONFIRMED)
}

/** Says that the change is taken back, unless something was decided before. What counts in the end. */
export async function claimReturned(folder: ArmFolder, why: ReturnClaim): Promise<Verdict> {
  if (why.by === 'deadline') {
    const claimed = await claimIfThere(folder, DEADLINE)
    return claimed.kind === 'none' ? await claim(folder, LATE) : claimed
  }
  if (why.by === 'boot') return await claim(folder, BOOT)
  return await claimInWords(folder, { kind: 'returned', claim: { ...why, reason: cut(why.reason) } })
}

/**
 * Says that the deadline of this kind is over, unless something was decided before. "none": it is of that kind no more, so
 * the deadline must be read anew.
 */
export async function claimOver(folder: ArmFolder, of: Deadline['of']): Promise<Verdict> {
  return await claimIfThere(folder, of === 'proof' ? DEADLINE : LATE)
}

/**
 * From here on the deadline of the proof can no more be over, and that of the promotion can; it must be on disk before.
 * Says false when something was decided before. Whoever read the old deadline finds its claim gone: so nothing is promoted
 * that is being taken back.
 */
export async function beginPromotion(folder: ArmFolder): Promise<boolean> {
  await moveClaim(folder, DEADLINE, LATE)
  return (await readVerdict(folder)).kind === 'none'
}

/** A new boot gives a new time for the proof. Nothing else may run for this round at that moment. */
export async function beginProof(folder: ArmFolder): Promise<void> {
  await moveClaim(folder, LATE, DEADLINE)
}

async function moveClaim(folder: ArmFolder, from: string, to: string): Promise<void> {
  try {
    await rename(join(folder.path, from), join(folder.path, to))
    await syncDirectory(folder.path)
  } catch (error) {
    // An earlier process, cut after it, has moved it.
    if (!hasCode(error, 'ENOENT')) throw error
  }
}

/** Says that nothing was changed and why it ended, unless something was decided before. What counts in the end. */
export async function claimUntouched(folder: ArmFolder, why: UntouchedClaim): Promise<Verdict> {
  return await claimInWords(folder, { kind: 'untouched', ...why, reason: cut(why.reason) })
}

const MAX_REASON_CHARS = 700
const cut = (reason: string) => reason.slice(0, MAX_REASON_CHARS)

/** Only the agent's one process writes here, and never once something is decided: the slot is the verdict then. */
async function claimInWords(folder: ArmFolder, verdict: Verdict): Promise<Verdict> {
  const before = await readVerdict(folder)
  if (before.kind !== 'none') return before
  await writeSlot(slotPath(folder, 'claim.agent'), verdict)
  return await claim(folder, 'claim.agent')
}

export async function readVerdict(folder: ArmFolder): Promise<Verdict> {
  const path = join(folder.path, VERDICT)
  try {
    const bytes = await readFileIfThere(path)
    if (bytes === undefined) return { kind: 'none' }
    const slot = await readSlot(path)
    // A claim of the agent's stands in a slot, the others are plain.
    const value: unknown = slot.kind === 'value' ? slot.value : JSON.parse(bytes.toString('utf8'))
    return parseVerdict(value)
  } catch (error) {
    return { kind: 'unreadable', reason: `${path}: ${reasonOf(error)}` }
  }
}

const claimText = (verdict: Verdict) => `${JSON.stringify(verdict)}\n`

async function claim(folder: ArmFolder, candidate: string): Promise<Verdict> {
  try {
    await link(join(folder.path, candidate), join(folder.path, VERDICT))
    await syncDirectory(folder.path)
  } catch (error) {
    if (!hasCode(error, 'EEXIST')) throw error
  }
  return await readVerdict(folder)
}

async function claimIfThere(folder: ArmFolder, candidate: string): Promise<Verdict> {
  try {
    return await claim(folder, candidate)
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error
    return await readVerdict(folder)
  }
}

function parseVerdict(value: unknown): Verdict {
  const fields = fieldsOf(value)
  if (fields.get('kind') === 'confirmed') return { kind: 'confirmed' }
  if (fields.get('kind') === 'untouched') {
    const [kind, refusal, reason, exitCode] = ['class', 'refusal', 'reason', 'exitCode'].map(name =>
      fields.get(name),
    )
    if (!isClass(kind) || typeof refusal !== 'string' || typeof reason !== 'string') {
      throw new Error('untouched: is unknown')
    }
    return {
      kind: 'untouched',
      class: kind,
      refusal,
      reason,
      exitCode: typeof exitCode === 'number' ? exitCode : undefined,
    }
  }
  if (fields.get('kind') !== 'returned') throw new Error('kind: is unknown')
  const claimed = fieldsOf(fields.get('claim'))
  const by = claimed.get('by')
  if (by === 'deadline' || by === 'boot') return { kind: 'returned', claim: { by } }
  const [kind, reason] = [claimed.get('class'), claimed.get('reason')]
  if (by !== 'agent' || !isClass(kind) || typeof reason !== 'string') throw new Error('claim: is unknown')
  return { kind: 'returned', claim: { by, class: kind, reason } }
}

const isClass = (value: unknown): value is OutcomeClass =>
  Object.values(OutcomeClass).some(known => known === value)

function fieldsOf(value: unknown): ReadonlyMap<string, unknown> {
  return new Map(typeof value === 'object' && value !== null ? Object.entries(value) : [])
}
