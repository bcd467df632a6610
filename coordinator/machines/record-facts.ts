import { invalid } from '../../shared/rpc/rpc-error.ts'
import { findConflicts, recordFindings } from '../enrolment/find-conflicts.ts'
import { type FactsLimits, insertFacts, pruneFacts } from '../store/facts.ts'
import { changeMachine, findMachine } from '../store/machines.ts'
import type { SessionDeps } from './admit-session.ts'
import { identityColumns, identityOfFacts } from './identity.ts'
import { MAX_FACTS_BYTES, readFacts } from './read-facts.ts'
import { refreshMachines } from './refresh.ts'

export interface RecordFactsDeps extends SessionDeps {
  readonly factsLimits: FactsLimits
}

/** Keeps an enrolled machine's facts when they are others than before; equal ones cost one digest and no write. */
export async function recordFacts(
  { store, directory, clock, factsLimits }: RecordFactsDeps,
  machineId: string,
  bytes: Uint8Array,
): Promise<{ readonly digest: string; readonly changed: boolean }> {
  const reading = readFacts(bytes, MAX_FACTS_BYTES)
  if (reading.kind === 'refused') throw invalid(reading.reason)
  const { digest, facts } = reading
  if (directory.get(machineId)?.factsDigest === digest) return { digest, changed: false }
  const now = clock.now()
  const identity = identityOfFacts(facts)
  const others = await store.transact(async tx => {
    const row = await findMachine(tx, machineId)
    if (!row || row.facts_digest === digest) return []
    const findings = await findConflicts(tx, { machineId, claimed: identity, row, vouched: true })
    const isClone = findings.some(finding => finding.class === 'clone')
    await insertFacts(tx, { machine: machineId, digest, at: now.getTime(), facts: bytes })
    await pruneFacts(tx, machineId, now.getTime(), factsLimits)
    await changeMachine(tx, row, {
      facts_digest: digest,
      simulated: facts.simulated ? 1 : 0,
      reboot_reasons: JSON.stringify(facts.nixos?.rebootReasons ?? []),
      // In a dispute the identity stays what it was: a person decides which of the two is right.
      ...(isClone ? {} : identityColumns(identity)),
    })
    return await recordFindings(tx, machineId, findings, now)
  })
  await refreshMachines(store.db, directory, [machineId], facts)
  await refreshMachines(store.db, directory, others)
  return { digest, changed: true }
}
