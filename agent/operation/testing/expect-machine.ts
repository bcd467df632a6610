import { expect } from 'vitest'
import { bootDefault, CURRENT, OLD } from './sample-machine.ts'
import type { ScriptedSystem } from './scripted-system.ts'

/** What stands before a switch: nothing of the machine was written. */
export function expectUntouched(system: ScriptedSystem): void {
  expect(system.links.get(CURRENT)).toBe(OLD)
  expect(bootDefault(system)).toBe(OLD)
  expect(system.commands.filter(line => line.includes('switch-to-configuration'))).toEqual([])
}

/** What runs, and what the next boot starts, is what ran before. */
export function expectOldAgain(system: ScriptedSystem): void {
  expect(system.links.get(CURRENT)).toBe(OLD)
  expect(bootDefault(system)).toBe(OLD)
}
