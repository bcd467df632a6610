import { spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { pause } from '../../shared/lifecycle.ts'
import { childPath, toolEnvironment } from '../config.ts'
import type { UnitSpec } from './units.ts'

/** How often a simulated timer looks whether its machine is still there. */
const LOOK_MS = 500
/** Between SIGTERM and SIGKILL to what is left of a unit. */
const GRACE_MS = 2_000
const GROUP_POLL_MS = 20

/**
 * The process that stands for one unit of a simulated machine: waits, runs what comes before, the command, and what comes
 * after, which is told how the command ended. `home` is the state folder: without it there is no machine any more.
 */
export async function runAsUnit(
  unit: UnitSpec & { readonly afterMs: number },
  home: string,
): Promise<number> {
  let stopped = false
  let running: number | undefined
  const stop = () => {
    stopped = true
    if (running !== undefined) kill(running)
  }
  process.once('SIGTERM', stop)
  const dueMs = performance.now() + unit.afterMs
  while (performance.now() < dueMs) {
    if (stopped || !existsSync(home)) return 0
    await pause(Math.min(LOOK_MS, dueMs - performance.now()))
  }
  const own = { PATH: childPath(), ...toolEnvironment(), LC_ALL: 'C', ...unit.env }
  const run = (command: readonly string[], env: Readonly<Record<string, string>> = {}) =>
    runCommand(command, { ...own, ...env }, pid => {
      running = pid
    })
  const before =
    unit.before && !stopped ? await run(unit.before) : { code: stopped ? 1 : 0, signal: undefined }
  const main = before.code === 0 && !stopped ? await run(unit.command) : before
  const result = stopped
    ? 'success'
    : main.signal !== undefined
      ? 'signal'
      : main.code === 0
        ? 'success'
        : 'exit-code'
  // As with a control group: nothing of it is left when what comes after is run.
  await endGroup()
  if (unit.after) {
    await run(unit.after, {
      SERVICE_RESULT: result,
      EXIT_CODE: main.signal === undefined ? 'exited' : 'killed',
      EXIT_STATUS: main.signal === undefined ? String(main.code) : main.signal.replace(/^SIG/, ''),
    })
  }
  return main.code
}

/** Ends whatever else is in the group of processes that this one leads. */
async function endGroup(): Promise<void> {
  const until = performance.now() + GRACE_MS
  for (;;) {
    const others = groupMembers()
    if (others.length === 0) return
    const signal = performance.now() < until ? 'SIGTERM' : 'SIGKILL'
    for (const pid of others) kill(pid, signal)
    await pause(GROUP_POLL_MS)
  }
}

/** Processes that this one's group has beside it; those that only wait to be reaped are none. */
function groupMembers(): readonly number[] {
  return readdirSync('/proc').flatMap(name => {
    const pid = Number(name)
    if (!Number.isInteger(pid) || pid === process.pid) return []
    try {
      const text = readFileSync(`/proc/${name}/stat`, 'utf8')
      const [state, , group] = text.slice(text.lastIndexOf(')') + 2).split(' ')
      return group === String(process.pid) && state !== 'Z' && state !== 'X' ? [pid] : []
    } catch {
      return [] // it ended meanwhile
    }
  })
}

interface Ended {
  readonly code: number
  readonly signal: string | undefined
}

function runCommand(
  [command = '', ...args]: readonly string[],
  env: Readonly<Record<string, string>>,
  onStart: (pid: number | undefined) => void,
): Promise<Ended> {
  return new Promise(resolve => {
    const child = spawn(command, args, {
      stdio: ['ignore', 'inherit', 'inherit'],
      env,
    })
    onStart(child.pid)
    child.once('error', () => resolve({ code: 203, signal: undefined }))
    child.once('exit', (code, signal) => {
      onStart(undefined)
      resolve({ code: code ?? 1, signal: signal ?? undefined })
    })
  })
}

function kill(pid: number, signal: NodeJS.Signals = 'SIGTERM'): void {
  try {
    process.kill(pid, signal)
  } catch {
    // It ended by itself meanwhile.
  }
}
