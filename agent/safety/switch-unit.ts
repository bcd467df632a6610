import { join } from 'node:path'
import { pause } from '../../shared/lifecycle.ts'
import type { System } from '../system/system.ts'
import { currentSystem } from '../system/system-links.ts'
import type { UnitSpec, Units } from '../units/units.ts'
import type { ArmRecord } from './arm-record.ts'
import { hasLeftLists } from './lists.ts'
import { type EndMark, readEndMark, readStartMark } from './marks.ts'
import { type ArmFolder, slotPath } from './operation-folder.ts'
import { readBootTime } from './uptime.ts'

/** Forward to the new system, back to the old one, or only what the next boot starts. */
export type Direction = 'switch' | 'back' | 'boot'

/** Every unit of a round has a name of its own, which nobody else ever has. */
export const unitName = (kind: Direction | 'return' | 'prove', { operation, round }: ArmFolder) =>
  `muster-${kind}-${operation}-${round}`

const WORDS = { switch: 'switch to', back: 'back to', boot: 'boot default' } as const

/** The unit in which a toplevel's own program switches to it. Its marks are its record; its output goes to the journal. */
export function switchUnit(
  folder: ArmFolder,
  arm: Pick<ArmRecord, 'operation' | 'program' | 'toolPath'>,
  direction: Direction,
  toplevel: string,
): UnitSpec {
  const mark = (which: 'start' | 'end') => [
    ...arm.program,
    'mark',
    which,
    slotPath(folder, `${direction}.${which}`),
  ]
  return {
    name: unitName(direction, folder),
    description: `Muster operation ${arm.operation}: ${WORDS[direction]} ${toplevel}`,
    command: [join(toplevel, 'bin/switch-to-configuration'), direction === 'boot' ? 'boot' : 'test'],
    before: mark('start'),
    after: mark('end'),
    env: { PATH: arm.toolPath, LC_ALL: 'C' },
  }
}

/** What was seen of one run of the program, when nothing of it is left. */
export interface SwitchSeen {
  readonly began: boolean
  /** Undefined: the unit is gone and wrote none, or it cannot be read. */
  readonly end: EndMark | undefined
  /** It was stopped because its time was over, and what it waited for. */
  readonly overdue: string | undefined
  /** Something of its control group was left when it should have been gone. */
  readonly alive: string | undefined
  readonly lines: readonly string[]
  /** The program's first and last line in the journal. */
  readonly opening: boolean
  readonly closing: boolean
  /** The program planned, and left lists that were not there before: it did not come to its end. */
  readonly listsLeft: boolean
  readonly currentAfter: string | undefined
}

export interface WatchDeps {
  readonly system: System
  readonly units: Units
  readonly root: string
  readonly say: (line: string) => void
}

const POLL_MS = 250
/** How long a stopped unit may take until nothing is left of it. */
const GONE_MS = 90_000
const MAX_LINES = 20_000

/**
 * Watches a run until its unit is gone, ending it when its time is over. Undefined: the signal fired first; the unit
 * runs on.
 */
export async function watchSwitch(
  deps: WatchDeps,
  folder: ArmFolder,
  direction: Direction,
  /** Milliseconds that it may take, counted from its own start mark. */
  limitMs: number,
  signal: AbortSignal,
): Promise<SwitchSeen | undefined> {
  const { units, system, root, say } = deps
  const name = unitName(direction, folder)
  // An agent that is started anew in the middle gives it no more time.
  const until = performance.now() + Math.max(0, limitMs - (await ranFor(system, folder, direction)))
  const lines: string[] = []
  let cursor: string | undefined
  let opening = false
  let closing = false
  let overdue: string | undefined
  let alive: string | undefined
  const take = async (complete: boolean) => {
    const output = await units.output(name, cursor, complete)
    cursor = output.cursor
    for (const { text, identifier } of output.lines) {
      if (lines.length < MAX_LINES) lines.push(text)
      opening ||= identifier === 'nixos' && text.startsWith('switching to system configuration')
      closing ||= identifier === 'nixos' && /^finished switching|failed \(status \d+\)/.test(text)
      say(text)
    }
  }
  for (;;) {
    const state = await units.state(name)
    await take(state.kind === 'gone')
    if (state.kind === 'gone') break
    if (performance.now() >= until) {
      const jobs = await units.jobs()
      overdue = jobs.length > 0 ? `waiting for ${jobs.join(', ')}` : 'nothing is known of what it waited for'
      say(`the switch is overdue, ${overdue}; its unit is stopped`)
      const stopped = await units.stop(name, GONE_MS)
      if (stopped.kind === 'alive') alive = stopped.reason
      await take(true)
      break
    }
    if (!(await pause(POLL_MS, signal))) return undefined
  }
  const [began, ended] = await Promise.all([
    readStartMark(slotPath(folder, `${direction}.start`)),
    readEndMark(slotPath(folder, `${direction}.end`)),
  ])
  return {
    // A mark that cannot be read may have been one.
    began: began.kind !== 'unmarked' || ended.kind === 'marked',
    end: ended.kind === 'marked' ? ended.mark : undefined,
    overdue,
    alive,
    lines,
    opening,
    closing,
    listsLeft: direction === 'switch' && (await hasLeftLists(system, root, slotPath(folder, 'switch.lists'))),
    currentAfter: await currentSystem(system, root),
  }
}

/** Milliseconds since a run began in this boot; 0: it has not, or it cannot be told. */
async function ranFor(system: System, folder: ArmFolder, direction: Direction): Promise<number> {
  const began = await readStartMark(slotPath(folder, `${direction}.start`))
  if (began.kind !== 'marked' || began.mark.boot === undefined) return 0
  const { boot } = began.mark
  const now = await readBootTime(system).catch(() => undefined)
  return now?.bootId === boot.bootId ? Math.max(0, now.uptimeMs - boot.uptimeMs) : 0
}
