import type { ArmRecord } from './arm-record.ts'
import { type ArmFolder, slotPath } from './operation-folder.ts'
import { clearSlot } from './slot.ts'
import { switchUnit, unitName, type WatchDeps, watchSwitch } from './switch-unit.ts'

const GONE_MS = 90_000

/**
 * Has a toplevel's own program write the boot loader, with that toplevel as the default. In a unit of its own, because an
 * agent that is killed must not leave half a boot loader. Undefined: done; otherwise what went wrong.
 */
export async function runBoot(
  deps: WatchDeps,
  folder: ArmFolder,
  arm: ArmRecord,
  toplevel: string,
): Promise<string | undefined> {
  const name = unitName('boot', folder)
  const left = await deps.units.stop(name, GONE_MS)
  if (left.kind === 'alive') return left.reason
  await clearSlot(slotPath(folder, 'boot.start'))
  await clearSlot(slotPath(folder, 'boot.end'))
  const started = await deps.units.start(switchUnit(folder, arm, 'boot', toplevel))
  if (started.kind !== 'started') {
    return started.kind === 'failed' ? started.reason : `a unit ${name} is there already`
  }
  // Not given a signal: whoever stops the agent does not stop this.
  const seen = await watchSwitch(deps, folder, 'boot', arm.switchMs, new AbortController().signal)
  if (seen?.end?.code === 'exited' && seen.end.status === '0') return undefined
  const how = seen?.overdue ?? (seen?.end ? `${seen.end.code} ${seen.end.status}` : 'no word of how it ended')
  const said = seen?.lines.findLast(line => line.trim() !== '') ?? ''
  return `switch-to-configuration boot: ${how}${said === '' ? '' : `: ${said.slice(0, 300)}`}`
}
