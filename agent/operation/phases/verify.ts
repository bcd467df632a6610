import { status } from '@grpc/grpc-js'
import { reasonOf } from '../../../shared/errors.ts'
import type { Assignment, GetRevisionResponse, Order } from '../../../shared/gen/muster/v1/agent_pb.ts'
import type { Facts } from '../../../shared/gen/muster/v1/facts_pb.ts'
import { OutcomeClass } from '../../../shared/gen/muster/v1/operation_pb.ts'
import { pause } from '../../../shared/lifecycle.ts'
import { backoffMs } from '../../../shared/retry.ts'
import { hardwareClaim, hardwareOf } from '../../../shared/revision/hardware-of-facts.ts'
import {
  type AcceptedRevision,
  judgeRevision,
  type KnownMemory,
} from '../../../shared/revision/judge-revision.ts'
import { findTarget, verifyManifest } from '../../../shared/revision/verify-revision.ts'
import { RpcError } from '../../../shared/rpc/rpc-error.ts'
import type { PhaseContext, PhaseFailure, PhaseResult } from '../context.ts'
import { failed, STOPPED } from '../context.ts'
import { expiryProblem } from '../expiry-problem.ts'
import { readMemory, writeMemory } from '../memory.ts'

/** What the next phases work from: everything in it stands in the verified manifest. */
export interface Verified extends AcceptedRevision {
  readonly facts: Facts
}

export interface VerifyInput {
  readonly order: Order
  readonly assignment: () => Assignment
  /** The agent's time, which never falls behind what it knows to be past. */
  readonly now: () => Date
  /** Told what is remembered from now on, before the coordinator is told of the phase. */
  readonly remembered: (memory: KnownMemory) => void
  /** What is to be installed. */
  readonly part: 'system' | 'kubernetes'
}

/** Fetches the revision, judges it by what this node knows and reads itself, and remembers it before anything is done. */
export async function verify(
  context: PhaseContext,
  { order, assignment, now, remembered, part }: VerifyInput,
): Promise<PhaseResult<Verified>> {
  const { deps, signal } = context
  const verb = part === 'system' ? 'apply' : 'upgrade'
  if (!deps.config.allow.includes(verb)) {
    return refused(
      'not-allowed',
      `this node does not take orders to ${verb} (option \`allow\` of its configuration)`,
    )
  }
  const trust = deps.trust()
  if (!trust) return refused('trust', 'this node has no trust set yet')
  const response = await fetchRevision(context, order, now)
  if (response.kind !== 'ok') return response

  const { envelope, target: targetBytes } = response.value
  const facts = await deps.facts(signal)
  const { host, group } = assignment()
  const where = { host, group }
  // The rule is taken from the verified target alone, so the signatures are looked at first.
  const verified = verifyManifest(envelope, trust)
  const found = verified.kind === 'verified' ? findTarget(verified.manifest, targetBytes, where) : undefined
  const rule =
    found?.kind === 'found' && found.target.group !== '' ? (found.target.binding?.rule ?? '') : undefined
  const judged = judgeRevision({
    envelope,
    targetBytes,
    trust,
    now: now(),
    clockSkewMs: deps.skewMs(),
    memory: await readMemory(deps.stateDir),
    order: { revision: Number(order.revision), manifestDigest: order.manifestDigest },
    hardware: hardwareOf(deps.machineId, hardwareClaim(facts)),
    assignment: where,
    ruleVerdict: rule === undefined ? undefined : await deps.rule(rule, signal),
    system: nixSystem(facts.cpu?.architecture),
    part,
  })
  if (judged.kind === 'refused') return refused(judged.class, judged.reason)
  await writeMemory(deps.stateDir, judged.newMemory)
  remembered(judged.newMemory)
  if (judged.trustChanged) await deps.adoptTrust(judged.trust)
  return {
    kind: 'ok',
    value: { ...judged, facts },
    detail: `revision ${judged.manifest.number} signed by ${judged.signers.map(id => id.slice(0, 12)).join(', ')}, as ${judged.host}`,
  }
}

/** Asks until the coordinator answers, the order expires or the agent stops. */
async function fetchRevision(
  { deps, signal }: PhaseContext,
  order: Order,
  now: () => Date,
): Promise<PhaseResult<GetRevisionResponse>> {
  for (let attempt = 0; ; attempt++) {
    if (signal.aborted) return STOPPED
    const problem = expiryProblem(order, now())
    if (problem) return problem
    try {
      if (deps.link.connected()) {
        return { kind: 'ok', value: await deps.link.getRevision(order.revision, signal), detail: '' }
      }
    } catch (error) {
      if (signal.aborted) return STOPPED
      const final = [status.NOT_FOUND, status.PERMISSION_DENIED, status.FAILED_PRECONDITION]
      if (error instanceof RpcError && final.includes(error.code)) {
        return refused('target-mismatch', `the coordinator has no target for this node: ${error.message}`)
      }
      deps.log.warn({ err: reasonOf(error) }, 'revision not fetched')
    }
    await pause(backoffMs(attempt, deps.config.retry), signal)
  }
}

function refused(refusal: string, reason: string): PhaseFailure {
  return { ...failed(OutcomeClass.REFUSED, reason), refusal }
}

/** Nix's name for a kernel's architecture; empty when it is not known. */
export function nixSystem(architecture: string | undefined): string {
  return architecture === 'x86_64' || architecture === 'aarch64' ? `${architecture}-linux` : ''
}
