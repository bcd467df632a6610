import { create, toBinary } from '@bufbuild/protobuf'
import { cutText } from '../../shared/cut-text.ts'
import { type OperationReport, Phase, type PhaseRecord } from '../../shared/gen/muster/v1/operation_pb.ts'
import { type Plan, PlanSchema, RebootReasonSchema } from '../../shared/gen/muster/v1/plan_pb.ts'
import type { OperationRow } from '../store/operations.ts'

const MAX_UNITS = 500
const MAX_UNIT_CHARS = 256
const MAX_REASONS = 64
const MAX_WARNINGS = 64
const MAX_TEXT_CHARS = 1_024

/** What a report adds to the row of its operation besides phases and outcome; nothing where nothing is new. */
export function annotations(
  row: Pick<OperationRow, 'plan' | 'activated_by'>,
  report: Pick<OperationReport, 'plan'>,
  phases: readonly PhaseRecord[],
  instance: string,
): { readonly plan?: Uint8Array; readonly activated_by?: string } {
  const plan = report.plan && toBinary(PlanSchema, boundPlan(report.plan))
  return {
    ...(plan && !row.plan?.equals(plan) && { plan }),
    ...(row.activated_by === '' && instance !== '' && isActivating(phases) && { activated_by: instance }),
  }
}

/**
 * Whether the agent that tells these phases is the one that arms or activates. One that tells of them as over may be the
 * next already, which is what confirms: it must not be taken for the one that activated.
 */
export function isActivating(phases: readonly PhaseRecord[]): boolean {
  const running = phases.filter(({ ended }) => !ended).map(({ phase }) => phase)
  const isProving = phases.some(({ phase }) => phase === Phase.PROVE || phase === Phase.CONFIRM)
  return !isProving && (running.includes(Phase.ARM) || running.includes(Phase.ACTIVATE))
}

/** Cut, not refused: a plan that is too long still says more than none. */
function boundPlan(plan: Plan): Plan {
  let leftOut = plan.leftOut
  const units = (names: readonly string[]) => {
    leftOut += Math.max(0, names.length - MAX_UNITS)
    return names.slice(0, MAX_UNITS).map(name => name.slice(0, MAX_UNIT_CHARS))
  }
  const cut = (text: string) => cutText(text, MAX_TEXT_CHARS)
  const lists = {
    stops: units(plan.stops),
    starts: units(plan.starts),
    restarts: units(plan.restarts),
    reloads: units(plan.reloads),
    untouched: units(plan.untouched),
  }
  return create(PlanSchema, {
    ...plan,
    ...lists,
    from: cut(plan.from),
    to: cut(plan.to),
    rebootReasons: plan.rebootReasons.slice(0, MAX_REASONS).map(reason =>
      create(RebootReasonSchema, {
        ...reason,
        kind: cutText(reason.kind, 64),
        key: cutText(reason.key, 256),
        before: reason.before.slice(0, 200),
        after: reason.after.slice(0, 200),
      }),
    ),
    warnings: plan.warnings.slice(0, MAX_WARNINGS).map(cut),
    leftOut,
  })
}
