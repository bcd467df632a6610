import { join } from 'node:path'
import { OutcomeClass, Phase } from '../../../shared/gen/muster/v1/operation_pb.ts'
import type { GateAnswer } from '../../gates/gate-answer.ts'
import { watchGates } from '../../gates/watch-gates.ts'
import { proveRuntime } from '../../kubernetes/prove-runtime.ts'
import { leftUntil } from '../../safety/deadline.ts'
import { armDeadMan } from '../../safety/return-unit.ts'
import { readBootTime } from '../../safety/uptime.ts'
import { failed, STOPPED } from '../context.ts'
import { readProof } from '../proof-file.ts'
import { roundOf } from './round.ts'
import { AGAIN, type StepContext, type StepEnd } from './step-context.ts'
import { claimReturn } from './take-back.ts'

/** The proof must stand before the dead man's time is up, so that the reason is the gate's and not the silence. */
const MARGIN_MS = 1_000
const RUNTIME_MARGIN_MS = 10_000
const LEAST_RUNTIME_MS = 5_000

/**
 * In another boot than the one that armed it the system's own unit has armed the dead man again; where that did not run,
 * nobody else would. Gives the time that is left.
 */
async function armInThisBoot(context: StepContext): Promise<number> {
  const { deps, input } = context
  const { folder, arm } = await roundOf(context)
  const now = await readBootTime(deps.system)
  const afterMs = arm.confirmMs + (input.states().get(context.operation)?.extendedMs ?? 0)
  const problem = await armDeadMan(deps.units, folder, arm, { stateDir: deps.stateDir, now, afterMs })
  if (problem !== undefined) input.say(`the dead man could not be armed in this boot: ${problem}`)
  return afterMs
}

/** Watches the health gates and the units until they held for the soak time. */
export async function prove(context: StepContext): Promise<StepEnd> {
  const { deps, state, phase, record, operation } = context
  const { round } = state
  if (!round) throw new Error('nothing is armed')
  const { safety, treeDigest } = await readProof(deps.stateDir, operation)
  const start = await readBootTime(deps.system)
  const startedMs = performance.now()
  // A clock that nobody can set.
  const nowMs = () => start.uptimeMs + (performance.now() - startedMs)
  const left =
    (context.seen.deadline && leftUntil(context.seen.deadline, start)) ?? (await armInThisBoot(context))
  const { arm } = await roundOf(context)
  const result = await phase(Phase.PROVE, async ({ signal, say }) => {
    if (arm.runtime) {
      // What is left of the time is needed for the gates, whose soak begins behind it.
      const most = Math.max(LEAST_RUNTIME_MS, left - safety.soakMs - RUNTIME_MARGIN_MS)
      const deadlineMs = Math.min(most, deps.config.kubernetesDeadlineMs)
      const ready = await proveRuntime(deps.kubernetes, arm.runtime, { deadlineMs, signal })
      if (signal.aborted) return STOPPED
      if (ready.kind === 'failed') {
        return failed(
          OutcomeClass.ACTIVATION_FAILED,
          `the container runtime of the new system is not well: ${ready.reason}`,
        )
      }
      say(ready.value)
    }
    // What a gate printed is looked for most where the coordinator was not reached: it stays in this machine's journal.
    const unwell = ({ gate, verdict, reason, output }: GateAnswer) =>
      deps.log.warn({ operationId: operation, gate, verdict, reason, output }, 'a gate is not healthy')
    const proof = await watchGates(
      { system: deps.system, failedUnits: () => deps.units.failed(), nowMs, say, unwell },
      {
        safety,
        treeDir: treeDigest === '' ? '' : join(deps.stateDir, 'trees', treeDigest),
        activatedAtMs: start.uptimeMs,
        deadlineMs: start.uptimeMs + left - MARGIN_MS,
        failedBefore: new Set(round.failedBefore),
      },
      signal,
    )
    switch (proof.kind) {
      case 'stopped':
        return STOPPED
      case 'proved':
        return {
          kind: 'ok',
          value: proof.degraded,
          detail: `healthy for ${Math.round(safety.soakMs / 1_000)} s, ${safety.gates.length} gates`,
        }
      case 'unhealthy':
        return failed(OutcomeClass.ACTIVATION_FAILED, `gate ${proof.gate}: ${proof.reason}`)
      case 'not-proved':
        return failed(OutcomeClass.UNKNOWN, `health not proved: ${proof.reason}`)
    }
  })
  if (result.kind === 'stopped') return result
  if (result.kind === 'ok') await record({ kind: 'proved', degraded: result.value })
  else await claimReturn(context, { by: 'agent', class: result.class, reason: result.reason })
  return AGAIN
}
