import { create, type MessageInitShape } from '@bufbuild/protobuf'
import {
  type MaintenanceWindowSchema,
  type RolloutPolicy,
  RolloutPolicySchema,
  type RolloutTarget,
  RolloutTargetSchema,
} from '../gen/muster/v1/manifest_pb.ts'
import { amountText } from '../rollout/amount.ts'
import { clockText, type MaintenanceWindow } from '../rollout/maintenance-window.ts'
import { durationFromMs } from '../time.ts'
import type { Fleet, HostRolloutSettings } from './fleet.ts'

/** What of the file goes into the manifest: as much as is written. Undefined: nothing is. */
export function rolloutPolicyMessage({
  rollout,
  clusters,
}: Pick<Fleet, 'rollout' | 'clusters'>): RolloutPolicy | undefined {
  const { maxUnavailable, canarySize, canarySoakMs, soakMs, drainLimitMs } = rollout
  const message = create(RolloutPolicySchema, {
    maxUnavailable: maxUnavailable ? amountText(maxUnavailable) : '',
    canaries: [...rollout.canaries],
    canarySize: canarySize ? amountText(canarySize) : '',
    ...(canarySoakMs === undefined ? {} : { canarySoak: durationFromMs(canarySoakMs) }),
    ...(soakMs === undefined ? {} : { soak: durationFromMs(soakMs) }),
    onFailure: rollout.onFailure ?? '',
    maxFailures: rollout.maxFailures ?? 0,
    spread: rollout.spread ?? '',
    silentPercent: rollout.silentPercent ?? 0,
    askGates: rollout.askGates === 'before-each-step',
    neverAskGates: rollout.askGates === 'never',
    ...(drainLimitMs === undefined ? {} : { drainLimit: durationFromMs(drainLimitMs) }),
    windows: rollout.windows.map(windowMessage),
    follows: clusters.flatMap(({ name, after }) =>
      after.length === 0 ? [] : [{ cluster: name, after: [...after] }],
    ),
  })
  const isWritten =
    Object.values(rollout).some(value => (Array.isArray(value) ? value.length > 0 : value !== undefined)) ||
    message.follows.length > 0
  return isWritten ? message : undefined
}

/** What of the file goes into a target. Undefined: nothing is written, and the target has the bytes it always had. */
export function rolloutTargetMessage(settings: HostRolloutSettings): RolloutTarget | undefined {
  const { windows, after, drainLimitMs } = settings
  if (windows.length === 0 && after.length === 0 && drainLimitMs === undefined) return undefined
  return create(RolloutTargetSchema, {
    windows: windows.map(windowMessage),
    after: [...after],
    ...(drainLimitMs === undefined ? {} : { drainLimit: durationFromMs(drainLimitMs) }),
  })
}

function windowMessage(window: MaintenanceWindow): MessageInitShape<typeof MaintenanceWindowSchema> {
  const { days, fromMinute, toMinute, timeZone } = window
  return { days: [...days], from: clockText(fromMinute), to: clockText(toMinute), timeZone }
}
