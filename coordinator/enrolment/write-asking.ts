import type { Transaction } from 'kysely'
import { type ClaimedIdentity, identityColumns } from '../machines/identity.ts'
import type { ConditionRow } from '../store/conditions.ts'
import { type FactsLimits, insertFacts, pruneFacts } from '../store/facts.ts'
import {
  changeMachine,
  insertMachine,
  type MachineChange,
  type MachineRow,
  type NewMachineRow,
} from '../store/machines.ts'
import type { Database } from '../store/tables.ts'
import type { Assignment } from './assign.ts'
import { aboutClaimant } from './find-conflicts.ts'
import type { IdentityFinding } from './judge-identity.ts'
import type { Proved } from './prove.ts'

/** A proved request with all that its answer depends on. */
export interface Asked extends Proved {
  readonly tokenSecret: string
  readonly address: string
  readonly now: Date
  readonly identity: ClaimedIdentity
  readonly assignment: Assignment
}

/** Columns from what it says now. In a dispute the identity stays what it was: a person decides which one is right. */
export function seenColumns(
  { facts, identity, address, now }: Asked,
  row: MachineRow | undefined,
  findings: readonly IdentityFinding[],
): MachineChange {
  const isClone = findings.some(finding => finding.class === 'clone')
  return {
    last_seen: Math.max(row?.last_seen ?? 0, now.getTime()),
    address,
    ...(row?.facts_digest === facts.digest
      ? {}
      : {
          facts_digest: facts.digest,
          simulated: facts.facts.simulated ? 1 : 0,
          reboot_reasons: JSON.stringify(facts.facts.nixos?.rebootReasons ?? []),
          ...(isClone ? {} : identityColumns(identity)),
        }),
  }
}

export async function writeRow(
  tx: Transaction<Database>,
  row: MachineRow | undefined,
  before: NewMachineRow,
  change: MachineChange,
): Promise<Omit<MachineRow, 'public_key'>> {
  if (row) {
    await changeMachine(tx, row, change)
    return { ...row, ...change, generation: row.generation + 1 }
  }
  const fresh = { ...before, ...change }
  await insertMachine(tx, fresh)
  return fresh
}

export async function writeFacts(
  tx: Transaction<Database>,
  { machineId, facts, now }: Asked,
  row: MachineRow | undefined,
  limits: FactsLimits,
): Promise<void> {
  if (row?.facts_digest === facts.digest) return
  const { digest, bytes } = facts
  await insertFacts(tx, { machine: machineId, digest, at: now.getTime(), facts: bytes })
  if (row && row.facts_digest !== '') await pruneFacts(tx, machineId, now.getTime(), limits)
}

export function withFindings(
  conditions: readonly ConditionRow[],
  machine: string,
  findings: readonly IdentityFinding[],
  since: number,
): readonly ConditionRow[] {
  const kept = new Map(conditions.map(row => [row.class, row]))
  for (const { class: kind, reason, others } of aboutClaimant(findings)) {
    if (kind === 'similar' && others.length > 0) continue
    kept.set(kind, { machine, class: kind, reason, since: kept.get(kind)?.since ?? since })
  }
  return [...kept.values()]
}
