import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import type { GateAnswer } from '../gates/gate-answer.ts'
import { runGate } from '../gates/run-gate.ts'
import { operationFolder } from '../safety/operation-folder.ts'
import type { OperationsDeps } from './context.ts'
import type { OperationState } from './fold.ts'
import { type Proof, readProof } from './proof-file.ts'

const GOOD: readonly OutcomeClass[] = [OutcomeClass.SUCCEEDED, OutcomeClass.DEGRADED]

/**
 * Asks once every gate by which this node was last proved: of the newest change that it was proved by, else of the newest target that was
 * verified here. Throws where that is not known any more; a node that never had any has none.
 */
export async function askGates(
  deps: Pick<OperationsDeps, 'stateDir' | 'system'>,
  states: ReadonlyMap<string, OperationState>,
  /** A revision was accepted here. */
  hadRevision: boolean,
  signal: AbortSignal,
): Promise<readonly GateAnswer[]> {
  const proof = await newestProof(deps.stateDir, states)
  if (proof === undefined) {
    if (!hadRevision) return []
    throw new Error('by which gates this node was last proved is not kept any more')
  }
  const { safety, treeDigest } = proof
  const treeDir = treeDigest === '' ? '' : join(deps.stateDir, 'trees', treeDigest)
  const sources = { system: deps.system, treeDir, nowMs: () => performance.now() }
  return await Promise.all(safety.gates.map(async gate => await runGate(sources, gate, signal)))
}

async function newestProof(
  stateDir: string,
  states: ReadonlyMap<string, OperationState>,
): Promise<Proof | undefined> {
  const newest = [...states].toReversed()
  const proved = newest.filter(([, { round, outcome }]) => round && outcome && GOOD.includes(outcome.class))
  const verified = newest.filter(([, { targetDigest }]) => targetDigest !== '')
  for (const [id] of [...proved.slice(0, 1), ...verified]) {
    if (!existsSync(operationFolder(stateDir, id))) continue
    const proof = await readProof(stateDir, id).catch(() => undefined) // it came to an end before anything was to be proved
    const isWhole =
      proof && (proof.treeDigest === '' || existsSync(join(stateDir, 'trees', proof.treeDigest)))
    if (isWhole) return proof
  }
  return undefined
}
