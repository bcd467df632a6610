import type { ClaimedIdentity } from '../machines/identity.ts'

export interface IdentityFinding {
  readonly class: 'clone' | 'collision' | 'similar'
  readonly reason: string
  /** Other machines that the finding is about. */
  readonly others: readonly string[]
  /** Who is not acted on because of it; absent: all of them. */
  readonly holds?: 'claimant' | 'others'
}

/** Another key, and what it claims to be. */
export interface OtherMachine {
  readonly id: string
  readonly serial: string
  readonly uuid: string
  readonly disksDigest: string
}

type Parts = Pick<ClaimedIdentity, 'serial' | 'uuid' | 'disksDigest'>

/**
 * Whether a machine is still itself, and nobody else is it. *Clone*: one key whose UUID and serial both changed.
 * *Collision*: another key with the same serial and disks. Less than that (one part changed, equal UUIDs alone) is only
 * shown. What is absent never equals anything, and never counts as changed.
 */
export function judgeIdentity(input: {
  readonly claimed: Parts
  /** What this key claimed before; undefined: it was never seen. */
  readonly known: Parts | undefined
  readonly others: readonly OtherMachine[]
  /** Machines that a person looked at and let be. */
  readonly accepted: readonly string[]
}): readonly IdentityFinding[] {
  const { claimed, known, accepted } = input
  const findings: IdentityFinding[] = []
  const serialChanged = known !== undefined && changed(known.serial, claimed.serial)
  const uuidChanged = known !== undefined && changed(known.uuid, claimed.uuid)
  if (known && serialChanged && uuidChanged) {
    findings.push({
      class: 'clone',
      reason: `one key on two machines: serial ${known.serial} became ${claimed.serial} and UUID ${known.uuid} became ${claimed.uuid}`,
      others: [],
    })
  } else if (known && (serialChanged || uuidChanged)) {
    const [part, before, after] = serialChanged
      ? ['serial', known.serial, claimed.serial]
      : ['UUID', known.uuid, claimed.uuid]
    findings.push({ class: 'similar', reason: `its ${part} changed from ${before} to ${after}`, others: [] })
  }
  const others = input.others.filter(({ id }) => !accepted.includes(id))
  const same = others.filter(
    other => equal(other.serial, claimed.serial) && equal(other.disksDigest, claimed.disksDigest),
  )
  if (same.length > 0) {
    findings.push({
      class: 'collision',
      reason: `another key claims the same serial ${claimed.serial} and the same disks: ${names(same)}`,
      others: same.map(({ id }) => id),
    })
  }
  const alike = others.filter(
    other =>
      !same.includes(other) && (equal(other.uuid, claimed.uuid) || equal(other.serial, claimed.serial)),
  )
  if (alike.length > 0) {
    findings.push({
      class: 'similar',
      reason: `the same UUID or serial is claimed by ${names(alike)}`,
      others: alike.map(({ id }) => id),
    })
  }
  return findings
}

function equal(a: string, b: string): boolean {
  return a !== '' && a === b
}

function changed(before: string, after: string): boolean {
  return before !== '' && after !== '' && before !== after
}

function names(machines: readonly OtherMachine[]): string {
  return machines.map(({ id }) => id.slice(0, 12)).join(', ')
}
