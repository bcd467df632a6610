import type { Transaction } from 'kysely'
import { type ClaimedIdentity, identityOfRow } from '../machines/identity.ts'
import { setCondition } from '../store/conditions.ts'
import { recordClaim } from '../store/events.ts'
import { readTexts } from '../store/json.ts'
import { bumpMachine, type MachineRow, machinesWithSerial } from '../store/machines.ts'
import type { Database } from '../store/tables.ts'
import { type IdentityFinding, judgeIdentity } from './judge-identity.ts'

/** Other machines with one serial that are looked at; beyond them the finding is made already. */
const MAX_OTHERS = 16

/**
 * Reads who else could be this machine, by an index, and judges. Two that somebody let in, or gave a token to, are both
 * held. A stranger's claim holds nobody but strangers: serials stand on stickers, and whoever reads one could otherwise
 * keep a machine from its orders and its certificate, or from being let in at all.
 */
export async function findConflicts(
  tx: Transaction<Database>,
  input: {
    readonly machineId: string
    readonly claimed: ClaimedIdentity
    readonly row: MachineRow | undefined
    /** It was let in before, or shows a good token. */
    readonly vouched: boolean
  },
): Promise<readonly IdentityFinding[]> {
  const { machineId, claimed, row, vouched } = input
  const found = claimed.serial === '' ? [] : await machinesWithSerial(tx, claimed.serial, MAX_OTHERS + 1)
  const rivals = found
    // What a person let be is let be from both sides.
    .filter(other => other.id !== machineId && !readTexts(other.accepted).includes(machineId))
    .map(({ id, serial, uuid, disks_digest, state }) => ({
      id,
      serial,
      uuid,
      disksDigest: disks_digest,
      isStranger: state === 'pending',
    }))
  const known = row && row.facts_digest !== '' ? identityOfRow(row) : undefined
  const accepted = row ? readTexts(row.accepted) : []
  const judge = (others: typeof rivals) => judgeIdentity({ claimed, known, others, accepted })
  if (!vouched) {
    return judge(rivals).map(finding =>
      finding.class === 'collision' ? { ...finding, holds: 'claimant' } : finding,
    )
  }
  const strangers = judgeIdentity({
    claimed,
    known: undefined,
    accepted,
    others: rivals.filter(rival => rival.isStranger),
  }).flatMap(finding => (finding.class === 'collision' ? [{ ...finding, holds: 'others' } as const] : []))
  return [...judge(rivals.filter(rival => !rival.isStranger)), ...strangers]
}

/** Findings that put the claimant itself in doubt. */
export function aboutClaimant(findings: readonly IdentityFinding[]): readonly IdentityFinding[] {
  return findings.filter(finding => finding.holds !== 'others')
}

/**
 * Records findings at every machine concerned. What others share is shown as long as it is so and therefore not stored;
 * a clone, a collision and a changed part stay until a person releases them. Says which other machines changed.
 */
export async function recordFindings(
  tx: Transaction<Database>,
  machineId: string,
  findings: readonly IdentityFinding[],
  now: Date,
): Promise<readonly string[]> {
  const changed: string[] = []
  for (const finding of findings) {
    if (finding.class === 'similar' && finding.others.length > 0) continue
    const about = { class: finding.class, since: now.getTime() }
    if (finding.holds !== 'others') {
      await setCondition(tx, { ...about, machine: machineId, reason: finding.reason })
    }
    await recordClaim(tx, {
      at: now,
      class: finding.class,
      machine: machineId,
      reason: finding.reason,
      actor: 'coordinator',
    })
    for (const other of finding.holds === 'claimant' ? [] : finding.others) {
      const reason = `another key claims the same serial and the same disks: ${machineId.slice(0, 12)}`
      await setCondition(tx, { ...about, machine: other, reason })
      await bumpMachine(tx, other)
      changed.push(other)
    }
  }
  return changed
}
