import { NEW, OLD } from '../../operation/testing/sample-machine.ts'
import type { ArmRecord } from '../arm-record.ts'

/** What the first round of an operation writes down before it switches the sample machine. */
export const sampleArm: ArmRecord = {
  operation: 'op',
  round: 1,
  mode: 'switch',
  target: NEW,
  previous: OLD,
  profile: OLD,
  generation: 1,
  bootId: 'boot-1',
  confirmMs: 1,
  switchMs: 1,
  program: ['x'],
  toolPath: '/',
  systemRoot: '/root',
  units: 'processes',
}
