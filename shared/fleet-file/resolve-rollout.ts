import type { HostRolloutSettings, RolloutSettings } from './fleet.ts'
import { type Layers, pick } from './layers.ts'
import type { Sections } from './read-sections.ts'

/** What the section [rollout] says. */
export function resolveRollout({ rollout }: Pick<Sections, 'rollout'>): RolloutSettings {
  const values = rollout?.values
  return {
    maxUnavailable: values?.['max-unavailable']?.value,
    canaries: values?.canaries?.value ?? [],
    canarySize: values?.['canary-size']?.value,
    canarySoakMs: values?.['canary-soak']?.value,
    soakMs: values?.soak?.value,
    onFailure: values?.['on-failure']?.value,
    maxFailures: values?.['max-failures']?.value,
    spread: values?.spread?.value,
    silentPercent: values?.['silent-percent']?.value,
    askGates: values?.['ask-gates']?.value,
    drainLimitMs: values?.['drain-limit']?.value,
    windows: values?.windows?.value ?? [],
  }
}

/** What holds for one host or group: each key as a whole, host over group over defaults. */
export function resolveHostRollout(layers: Layers): HostRolloutSettings {
  return {
    windows: pick(layers, 'windows').found?.value ?? [],
    after: pick(layers, 'after').found?.value ?? [],
    drainLimitMs: pick(layers, 'drain-limit').found?.value,
  }
}
