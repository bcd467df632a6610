import { join } from 'node:path'
import { toolEnvironment } from '../config.ts'
import { createRealSystem } from '../system/real-system.ts'
import type { System } from '../system/system.ts'
import { processUnits } from '../units/process-units.ts'
import { systemdUnits } from '../units/systemd-units.ts'
import type { Units } from '../units/units.ts'
import type { ArmCore } from './arm-record.ts'

/** The doors through which the dead man acts: the same that armed it, by what the record says. */
export function doorsOf(arm: ArmCore, stateDir: string): { readonly system: System; readonly units: Units } {
  const system = createRealSystem({ root: '/', path: arm.toolPath, env: toolEnvironment() })
  if (arm.units === 'systemd') return { system, units: systemdUnits(system) }
  return {
    system,
    units: processUnits({
      folder: join(stateDir, 'units'),
      home: stateDir,
      program: arm.program,
      path: arm.toolPath,
      env: toolEnvironment(),
      // The agent sees the end by itself: nothing of it is started anew here.
      restartAgent: async () => {},
    }),
  }
}
