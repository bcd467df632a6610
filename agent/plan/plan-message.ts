import type { MessageInitShape } from '@bufbuild/protobuf'
import type { PlanMode, PlanSchema } from '../../shared/gen/muster/v1/plan_pb.ts'
import type { Plan } from './make-plan.ts'
import { knownValue } from './part.ts'
import type { UnitAction } from './unit-changes.ts'

const MAX_UNITS = 500
const MAX_WARNINGS = 50
const MAX_TEXT = 500

/** A plan as it travels. How the target would be reached is chosen elsewhere, by what the fleet file allows. */
export function planMessage(plan: Plan, mode: PlanMode): MessageInitShape<typeof PlanSchema> {
  let leftOut = 0
  const units = (action: UnitAction) => {
    const names = plan.units.changes.filter(change => change.action === action).map(({ unit }) => unit)
    leftOut += Math.max(0, names.length - MAX_UNITS)
    return names.slice(0, MAX_UNITS)
  }
  const { store } = plan.space
  return {
    from: knownValue(plan.current) ?? '',
    to: plan.target,
    mode,
    rebootReasons: plan.reboot.reasons.map(reason => ({ ...reason })),
    stops: units('stop'),
    starts: units('start'),
    restarts: units('restart'),
    reloads: units('reload'),
    untouched: units('keep'),
    closureBytes: plan.closure.kind === 'size' ? BigInt(plan.closure.newBytes) : 0n,
    freeBytes: store.free.kind === 'bytes' ? BigInt(store.free.bytes) : 0n,
    agentChanges: plan.agentChanges,
    warnings: warningsOf(plan),
    leftOut,
    kubernetesRestarts: plan.kubernetes !== undefined,
  }
}

/** What the message has no field for is told in words: an amount nobody knows must not look like zero. */
function warningsOf(plan: Plan): string[] {
  const { store } = plan.space
  return [
    ...plan.warnings.map(({ text }) => text),
    ...(plan.closure.kind === 'unknown' ? [`size of the closure unknown: ${plan.closure.why}`] : []),
    ...(store.free.kind === 'unknown' ? [`free space unknown: ${store.free.why}`] : []),
  ]
    .slice(0, MAX_WARNINGS)
    .map(text => text.slice(0, MAX_TEXT))
}
