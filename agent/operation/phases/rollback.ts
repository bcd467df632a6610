import { create } from '@bufbuild/protobuf'
import type { Order } from '../../../shared/gen/muster/v1/agent_pb.ts'
import { type Target, TargetSchema } from '../../../shared/gen/muster/v1/manifest_pb.ts'
import { reachedSystem } from '../../../shared/system-change.ts'
import { type PhaseContext, type PhaseResult, refused } from '../context.ts'
import { actionOf, type OperationState } from '../fold.ts'
import { readMemory } from '../memory.ts'
import { readEarlierProof } from '../proof-file.ts'

export interface Rollback {
  readonly storePath: string
  /** What it is proved by: that of the operation that reached it, where it is still known. */
  readonly target: Target
  /** Of the tree that its scripts are taken from; empty: it has none, or that tree is gone. */
  readonly treeDigest: string
  readonly host: string
}

export type RollbackChoice =
  | {
      readonly kind: 'found'
      readonly storePath: string
      readonly revision: number | undefined
      readonly provedBy: string | undefined
      readonly host: string
    }
  | { readonly kind: 'refused'; readonly class: string; readonly reason: string }

/**
 * Chooses the system to go back to: the one that an operation of this very journal reached, or the one that ran before
 * it. Absolute, so that the same order twice leads to the same place.
 */
export function chooseRollback(
  named: { readonly operationId: string; readonly before: boolean },
  earlier: readonly OperationState[],
  floor: number,
): RollbackChoice {
  const refuse = (kind: string, reason: string): RollbackChoice => ({ kind: 'refused', class: kind, reason })
  const operation = earlier.find(({ order }) => order.operationId === named.operationId)
  if (!operation)
    return refuse('unknown-operation', `this node's journal has no operation ${named.operationId}`)
  if (actionOf(operation.order) === 'upgrade') {
    return refuse('not-reached', `operation ${named.operationId} moved Kubernetes alone, and no system`)
  }
  const { host } = operation
  if (named.before) {
    if (operation.previous === '') {
      return refuse('unknown-system', `what ran before operation ${named.operationId} is not known here`)
    }
    const maker = makerOf(operation.previous, earlier)
    const revision = maker && Number(maker.order.revision)
    if (belowFloor(revision, floor)) return refuseFloor(revision, floor)
    return {
      kind: 'found',
      storePath: operation.previous,
      revision,
      provedBy: maker?.order.operationId,
      host,
    }
  }
  if (!reached(operation) || operation.storePath === '') {
    return refuse('not-reached', `operation ${named.operationId} reached no system`)
  }
  // One that went back brought no revision of its own: what it reached came with another.
  const maker = operation.order.revision > 0n ? operation : makerOf(operation.storePath, earlier)
  const revision = maker && Number(maker.order.revision)
  if (belowFloor(revision, floor)) return refuseFloor(revision, floor)
  return { kind: 'found', storePath: operation.storePath, revision, provedBy: maker?.order.operationId, host }
}

/** The operation that last brought a system, by a revision. */
function makerOf(wanted: string, earlier: readonly OperationState[]): OperationState | undefined {
  return earlier.findLast(
    operation => operation.storePath === wanted && operation.order.revision > 0n && reached(operation),
  )
}

function reached({ order, outcome }: OperationState): boolean {
  return (
    outcome !== undefined &&
    reachedSystem({ action: actionOf(order), outcomeClass: outcome.class, phase: outcome.phase })
  )
}

/** What came from no known revision counts as older than all of them; a floor of 1 forbids nothing that was ever signed. */
function belowFloor(revision: number | undefined, floor: number): boolean {
  return floor > 1 && (revision ?? 0) < floor
}

function refuseFloor(revision: number | undefined, floor: number): RollbackChoice {
  return {
    kind: 'refused',
    class: 'below-floor',
    reason: `that system came with revision ${revision ?? 'unknown'}, below the floor ${floor}: publish a newer revision instead`,
  }
}

export async function findRollback(
  { deps, say }: PhaseContext,
  { action }: Order,
  earlier: readonly OperationState[],
): Promise<PhaseResult<Rollback>> {
  if (action.case !== 'rollback') throw new Error('no order to roll back')
  if (!deps.config.allow.includes('rollback')) {
    return refused(
      'not-allowed',
      'this node may not be ordered to roll back (option `allow` of its configuration)',
    )
  }
  const memory = await readMemory(deps.stateDir)
  if (memory.kind !== 'known') return refused('memory', 'what this node has accepted so far cannot be read')
  const choice = chooseRollback(action.value, earlier, memory.floor)
  if (choice.kind === 'refused') return refused(choice.class, choice.reason)
  const there = await deps.system.exists(choice.storePath)
  if (there.kind !== 'present') {
    return refused('gone', `${choice.storePath} is no longer in the store: order a revision instead`)
  }
  // What no operation of ours reached is proved by what the one after it was proved by: it is the same host.
  const known = await readEarlierProof(deps.stateDir, choice.provedBy ?? action.value.operationId)
  const target = create(TargetSchema, known?.target ?? {})
  const treeDigest = known?.treeDigest ?? ''
  // Without the tree of that time they cannot be asked, and a way back must not need the coordinator for it.
  const scripts =
    treeDigest === '' ? (target.safety?.gates ?? []).filter(gate => gate.probe.case === 'script') : []
  const unasked =
    scripts.length === 0 ? '' : `script gates not asked: ${scripts.map(({ name }) => name).join(', ')}`
  if (unasked !== '') say(`${unasked}: the tree that they are in is not kept on this machine any more`)
  if (target.safety) target.safety.gates = target.safety.gates.filter(gate => !scripts.includes(gate))
  return {
    kind: 'ok',
    value: { storePath: choice.storePath, target, treeDigest, host: choice.host },
    detail: [`back to ${choice.storePath}`, unasked].filter(text => text !== '').join('; '),
  }
}
