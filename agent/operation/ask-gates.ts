import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { OutcomeClass } from '../../shared/gen/muster/v1/operation_pb.ts'
import { reachedSystem } from '../../shared/system-change.ts'
import type { GateAnswer } from '../gates/gate-answer.ts'
import { runGate } from '../gates/run-gate.ts'
import { operationFolder } from '../safety/operation-folder.ts'
import type { OperationsDeps } from './context.ts'
import { actionOf, type OperationState } from './fold.ts'
import { type Proof, readProof } from './proof-file.ts'

const GOOD: readonly OutcomeClass[] = [OutcomeClass.SUCCEEDED, OutcomeClass.DEGRADED]

/** What is known of a node's past. */
export interface KnownPast {
  /** A revision was accepted here, or may have been. */
  readonly hadRevision: boolean
  /** Everything that was ever ordered here is in the journal. */
  readonly isWhole: boolean
}

/**
 * Asks once every gate by which this node was last proved: of the newest change that it was proved by, else of the newest target that was
 * verified here. Throws where that is not known any more; a node that was certainly never brought to a revision has none, whatever was
 * planned or has failed there.
 */
export async function askGates(
  deps: Pick<OperationsDeps, 'stateDir' | 'system'>,
  states: ReadonlyMap<string, OperationState>,
  { hadRevision, isWhole }: KnownPast,
  signal: AbortSignal,
): Promise<readonly GateAnswer[]> {
  if (isWhole && ![...states.values()].some(isReached)) return []
  const proof = await newestProof(deps.stateDir, states)
  if (proof === undefined) {
    if (!hadRevision) return []
    throw new Error('by which gates this node was last proved is not kept any more')
  }
  return await askOnce(deps, proof, signal)
}

/**
 * Asks once every gate by which a system was proved that runs again, by the newest change that reached it. None where nobody knows any
 * more.
 */
export async function askGatesOf(
  deps: Pick<OperationsDeps, 'stateDir' | 'system'>,
  states: ReadonlyMap<string, OperationState>,
  storePath: string,
  signal: AbortSignal,
): Promise<readonly GateAnswer[]> {
  const [maker] = [...states].findLast(
    ([, state]) => state.round?.target === storePath && isReached(state),
  ) ?? [undefined]
  if (maker === undefined) return []
  const proof = await readProof(deps.stateDir, maker).catch(() => undefined)
  return proof === undefined ? [] : await askOnce(deps, proof, signal)
}

async function askOnce(
  deps: Pick<OperationsDeps, 'stateDir' | 'system'>,
  { safety, treeDigest }: Proof,
  signal: AbortSignal,
): Promise<readonly GateAnswer[]> {
  const treeDir = treeDigest === '' ? '' : join(deps.stateDir, 'trees', treeDigest)
  const sources = { system: deps.system, treeDir, nowMs: () => performance.now() }
  return await Promise.all(safety.gates.map(async gate => await runGate(sources, gate, signal)))
}

/** It runs what the operation was to bring, moved there by it or found there; a system stays also where its Kubernetes failed. */
function isReached({ order, outcome }: OperationState): boolean {
  if (!outcome) return false
  const action = actionOf(order)
  const isUpgraded = action === 'upgrade' && GOOD.includes(outcome.class)
  return isUpgraded || reachedSystem({ action, outcomeClass: outcome.class, phase: outcome.phase })
}

async function newestProof(
  stateDir: string,
  states: ReadonlyMap<string, OperationState>,
): Promise<Proof | undefined> {
  const newest = [...states].toReversed()
  const proved = newest.filter(([, state]) => state.round && isReached(state))
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
