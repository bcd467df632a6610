import { pause } from '../../shared/lifecycle.ts'
import type { ArmRecord } from './arm-record.ts'
import { type ArmFolder, slotPath } from './operation-folder.ts'
import { clearSlot } from './slot.ts'
import { clearStaleLoader } from './stale-loader.ts'
import { switchUnit, unitName, type WatchDeps, watchSwitch } from './switch-unit.ts'
import { readVerdict } from './verdict.ts'

const GONE_MS = 90_000
/** What a run of the program in a unit needs of what was armed. */
export type BootRun = Pick<ArmRecord, 'operation' | 'program' | 'toolPath' | 'switchMs'>

/** How long another switch, such as one by hand, is waited for: half of what a promotion may take. */
const BUSY_MS = 5 * 60_000
const BUSY_PAUSE_MS = 2_000

/**
 * Has a toplevel's own program write the boot loader, with that toplevel as the default. In a unit of its own, because an
 * agent that is killed must not leave half a boot loader. Undefined: done; otherwise what went wrong.
 */
export async function runBoot(
  deps: WatchDeps,
  folder: ArmFolder,
  arm: BootRun,
  toplevel: string,
): Promise<string | undefined> {
  const until = performance.now() + Math.min(arm.switchMs / 2, BUSY_MS)
  for (;;) {
    const end = await runOnce(deps, folder, arm, toplevel)
    if (!end.busy || performance.now() >= until) return end.problem
    deps.say('another switch is running: the boot loader is written after it')
    await pause(BUSY_PAUSE_MS)
    // What is being taken back by now must not be written after that.
    if ((await readVerdict(folder)).kind !== 'none') return end.problem
  }
}

interface BootEnd {
  readonly problem: string | undefined
  /** Another switch had the program's lock: nothing was written. */
  readonly busy: boolean
}

async function runOnce(deps: WatchDeps, folder: ArmFolder, arm: BootRun, toplevel: string): Promise<BootEnd> {
  const failed = (problem: string, busy = false): BootEnd => ({ problem, busy })
  const name = unitName('boot', folder)
  const left = await deps.units.stop(name, GONE_MS)
  if (left.kind === 'alive') return failed(left.reason)
  await clearStaleLoader(deps.system, deps.root, deps.say)
  await clearSlot(slotPath(folder, 'boot.start'))
  await clearSlot(slotPath(folder, 'boot.end'))
  const started = await deps.units.start(switchUnit(folder, arm, 'boot', toplevel))
  if (started.kind !== 'started') {
    return failed(started.kind === 'failed' ? started.reason : `a unit ${name} is there already`)
  }
  // Not given a signal: whoever stops the agent does not stop this.
  const seen = await watchSwitch(deps, folder, 'boot', arm.switchMs, new AbortController().signal)
  if (seen?.end?.code === 'exited' && seen.end.status === '0') {
    return { problem: undefined, busy: false }
  }
  const how = seen?.overdue ?? (seen?.end ? `${seen.end.code} ${seen.end.status}` : 'no word of how it ended')
  const said = seen?.lines.findLast(line => line.trim() !== '') ?? ''
  const busy = seen?.end?.status === '11' && seen.lines.some(line => line.includes('Could not acquire lock'))
  return failed(`switch-to-configuration boot: ${how}${said === '' ? '' : `: ${said.slice(0, 300)}`}`, busy)
}
