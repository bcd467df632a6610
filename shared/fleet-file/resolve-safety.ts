import type { SafetySettings } from './fleet.ts'
import { gateSettings } from './gate-probe.ts'
import { type Layers, pick } from './layers.ts'
import type { Sections } from './read-sections.ts'

/** What holds for one host or group: each key as a whole, host over group over defaults. Gates that are wrong are left out. */
export function resolveSafety({ gates }: Pick<Sections, 'gates'>, layers: Layers): SafetySettings {
  return {
    gates: (pick(layers, 'gates').found?.value ?? []).flatMap(name => {
      const gate = gates.get(name)
      return (gate && gateSettings(gate)) ?? []
    }),
    soakMs: pick(layers, 'soak').found?.value,
    confirmWithinMs: pick(layers, 'confirm-within').found?.value,
    confirm: pick(layers, 'confirm').found?.value,
    reboot: pick(layers, 'reboot').found?.value,
    trial: pick(layers, 'trial').found?.value,
    toleratedUnits: pick(layers, 'tolerated-units').found?.value ?? [],
  }
}
