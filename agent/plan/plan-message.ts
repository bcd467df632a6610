import type { MessageInitShape } from '@bufbuild/protobuf'
import type { PlanMode, PlanSchema } from '../../shared/gen/muster/v1/plan_pb.ts'
import type { Plan } from './make-plan.ts'
import { knownValue } from './part.ts'
import type { Bytes } from './plan-space.ts'
import type { UnitAction } from './unit-changes.ts'

const MAX_UNITS = 500
const MAX_WARNINGS = 50
const MAX_TEXT = 500

/** Why a change would not be begun. */
export interface Refusal {
  readonly class: string
  readonly reason: string
}

/**
 * A plan as it travels. How the target would be reached, and what speaks against it on this node, is decided elsewhere: by
 * what the fleet file allows and by what the node remembers.
 */
export function planMessage(
  plan: Plan,
  mode: PlanMode,
  refusals: readonly Refusal[],
): MessageInitShape<typeof PlanSchema> {
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
    warnings: warningsOf(plan, refusals),
    leftOut,
    kubernetesRestarts: plan.kubernetes !== undefined,
    runtimeRestarts: plan.runtime !== undefined,
  }
}

/**
 * What the message has no field for is told in words: an amount nobody knows must not look like zero. What forbids the change
 * comes first, for it makes all else idle.
 */
function warningsOf(plan: Plan, refusals: readonly Refusal[]): string[] {
  const { store, boot } = plan.space
  return [
    ...refusals.map(({ class: kind, reason }) => `would be refused (${kind}): ${reason}`),
    ...plan.warnings.map(({ text }) => text),
    ...(plan.closure.kind === 'unknown' ? [`size of the closure unknown: ${plan.closure.why}`] : []),
    ...(store.free.kind === 'unknown' ? [`free space unknown: ${store.free.why}`] : []),
    // Where the kernel is there already nothing is copied.
    ...(boot && !(boot.need.kind === 'bytes' && boot.need.bytes === 0)
      ? [`boot partition ${boot.place.mountPoint}: ${inBytes(boot.free)} free, ${inBytes(boot.need)} needed`]
      : []),
  ]
    .slice(0, MAX_WARNINGS)
    .map(text => text.slice(0, MAX_TEXT))
}

const inBytes = (amount: Bytes) =>
  amount.kind === 'bytes' ? `${amount.bytes} bytes` : `an unknown amount (${amount.why})`
