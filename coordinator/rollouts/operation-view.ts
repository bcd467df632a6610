import type { Timestamp } from '@bufbuild/protobuf/wkt'
import { cutText } from '../../shared/cut-text.ts'
import {
  type Outcome,
  OutcomeClass,
  Phase,
  type PhaseRecord,
} from '../../shared/gen/muster/v1/operation_pb.ts'
import { type Plan, PlanMode } from '../../shared/gen/muster/v1/plan_pb.ts'
import { outcomeName } from '../../shared/operation-names.ts'
import { millisOf } from '../../shared/time.ts'
import { type OperationRow, outcomeOf, planOf } from '../store/operations.ts'
import type { Disturbance } from './plan/new-evidence.ts'
import type { OperationView, PlanView } from './plan/rollout-snapshot.ts'

/**
 * How long is waited before an apply that ended without fault of its target is given again, in milliseconds, for each further
 * time.
 */
const RETRY_DELAYS: Readonly<Partial<Record<OutcomeClass, readonly number[]>>> = {
  // The coordinator did not answer: it was away, or the node's way to it was.
  [OutcomeClass.UNCONFIRMED]: [60_000, 5 * 60_000, 15 * 60_000],
  // Somebody else's switch was running.
  [OutcomeClass.BUSY]: [30_000, 2 * 60_000, 10 * 60_000],
}

/** Outcomes after which what ran before runs: nothing was touched, or it was taken back. */
const UNTOUCHED: readonly OutcomeClass[] = [
  OutcomeClass.REBOOT_REQUIRED,
  OutcomeClass.REFUSED,
  OutcomeClass.BUSY,
  OutcomeClass.FETCH_FAILED,
  OutcomeClass.BUILD_FAILED,
  OutcomeClass.UNCONFIRMED,
  OutcomeClass.ROLLED_BACK,
]

/** Units that are part of Kubernetes, or that its pods run in. */
const KUBERNETES_UNIT = /^(k3s|k0s|kube|etcd|containerd|docker|crio|flannel|cilium|calico)[\w@.-]*$/

/** An operation as the planner reads it. */
export function viewOfOperation(row: OperationRow): OperationView {
  const outcome = outcomeOf(row)
  const plan = planOf(row)
  const kind = outcome?.class ?? OutcomeClass.UNSPECIFIED
  const delays = row.action === 'apply' ? (RETRY_DELAYS[kind] ?? []) : []
  const reason = outcome ? `${outcomeName(kind)}: ${outcome.reason}` : ''
  return {
    id: row.id,
    state:
      outcome === undefined
        ? 'open'
        : kind === OutcomeClass.SUCCEEDED || kind === OutcomeClass.DEGRADED
          ? 'done'
          : delays.length > 0
            ? 'retry'
            : 'failed',
    reason: cutText(reason, 500),
    endedMs: row.ended ?? undefined,
    retryDelaysMs: delays,
    quarantined: isQuarantineRefusal(outcome),
    untouched: UNTOUCHED.includes(kind),
    plan: plan && viewOfPlan(plan),
  }
}

/** Whether a node refused something because what it brings failed there before. */
export function isQuarantineRefusal(outcome: Outcome | undefined): boolean {
  return outcome?.class === OutcomeClass.REFUSED && outcome.refusal === 'quarantined'
}

/** Phases in which what makes a node Ready is stopped, or may be: its kubelet, its network, the machine. */
const DISTURBING: readonly Phase[] = [Phase.ACTIVATE, Phase.REBOOT, Phase.KUBERNETES, Phase.RETURN]

/**
 * When an operation last disturbed its node; one that touched nothing since it began. Undefined: nothing of it is on record.
 * A phase that a reboot cut off has ended when the next one began.
 */
export function disturbanceOf(
  phases: readonly PhaseRecord[],
  ended: Timestamp | undefined,
): Disturbance | undefined {
  const at = phases.findLastIndex(({ phase }) => DISTURBING.includes(phase))
  const startedMs = millisOf(phases[Math.max(at, 0)]?.started)
  if (startedMs === undefined) return undefined
  if (at < 0) return { startedMs, endedMs: startedMs }
  const endedMs = millisOf(phases[at]?.ended ?? phases[at + 1]?.started ?? ended)
  // Where the clock was set back meanwhile its times say nothing.
  return endedMs === undefined || endedMs < startedMs ? undefined : { startedMs, endedMs }
}

/** An operation that was ordered and is not on record any more. */
export function missingOperation(id: string): OperationView {
  return {
    id,
    state: 'missing',
    reason: '',
    endedMs: undefined,
    retryDelaysMs: [],
    untouched: false,
    plan: undefined,
  }
}

/** An act that its cluster would not begin when it was last asked. */
export function unwilling(id: string, reason: string): OperationView {
  return { ...missingOperation(id), state: 'unwilling', reason: cutText(reason, 500), untouched: true }
}

function viewOfPlan(plan: Plan): PlanView {
  const units = [...plan.stops, ...plan.starts, ...plan.restarts]
  return {
    ...(plan.from !== '' && { from: plan.from }),
    // A mode that this program does not know may be anything.
    units: [...units, ...plan.reloads],
    leftOut: plan.leftOut,
    barred: plan.mode === PlanMode.REBOOT_REQUIRED,
    reboots: plan.mode !== PlanMode.SWITCH && plan.mode !== PlanMode.NOTHING,
    touchesKubernetes:
      plan.kubernetesRestarts ||
      plan.runtimeRestarts ||
      plan.leftOut > 0 ||
      units.some(unit => KUBERNETES_UNIT.test(unit)),
  }
}
