import { spawn } from 'node:child_process'
import { open, readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { makePrivateDirectory, readFileIfThere, writeFileDurably } from '../../shared/durable-file.ts'
import { hasCode, reasonOf } from '../../shared/errors.ts'
import { pause } from '../../shared/lifecycle.ts'
import type { UnitLine, UnitOutput, UnitSpec, UnitStart, UnitState, UnitStop, Units } from './units.ts'

const POLL_MS = 50
const GRACE_MS = 2_000
const MAX_OUTPUT_BYTES = 4 * 1024 * 1024

export interface ProcessUnitsConfig {
  /** Where the units of this machine are written down; one folder a machine. */
  readonly folder: string
  /** The machine's state folder: without it there is no machine any more, and its units end. */
  readonly home: string
  /** How this agent is started: the processes that stand for units are of its program. */
  readonly program: readonly string[]
  readonly path: string
  readonly env: Readonly<Record<string, string>>
  /** What stands for the start of another agent process: a session of its own, opened anew. */
  readonly restartAgent: () => Promise<void>
}

/** One unit as it stands on disk. */
interface Entry {
  readonly unit: UnitSpec
  readonly afterMs: number
  /** When its time is over, by the uptime of the machine that this process really runs on. */
  readonly dueMs: number
  readonly pid: number
  /** Start time of the process in clock ticks since boot: tells it from another with the same number. */
  readonly started: string
}

/**
 * What stands for systemd on a simulated machine: each unit is a process of its own session that outlives the agent. It
 * keeps to the contract that operations rely on, and nothing of it is ever used on a machine that is not marked as simulated.
 */
export function processUnits(config: ProcessUnitsConfig): Units {
  const file = (name: string) => join(config.folder, `${name}.json`)
  const log = (name: string) => join(config.folder, `${name}.log`)

  const read = async (name: string): Promise<Entry | undefined> => {
    const bytes = await readFileIfThere(file(name))
    if (bytes === undefined) return undefined
    const entry: Entry = JSON.parse(bytes.toString('utf8'))
    return (await processStart(entry.pid)) === entry.started ? entry : undefined
  }
  const launch = async (unit: UnitSpec, afterMs: number): Promise<UnitStart> => {
    await makePrivateDirectory(config.folder)
    if (await read(unit.name)) return { kind: 'taken' }
    const output = await open(log(unit.name), 'a', 0o600)
    try {
      const [command = '', ...args] = [
        ...config.program,
        'unit',
        '--state-dir',
        config.home,
        JSON.stringify({ ...unit, afterMs }),
      ]
      const child = spawn(command, args, {
        detached: true,
        stdio: ['ignore', output.fd, output.fd],
        env: { PATH: config.path, ...config.env, LC_ALL: 'C', ...unit.env },
      })
      const failure = new Promise<string>(resolve => child.once('error', error => resolve(reasonOf(error))))
      if (child.pid === undefined) return { kind: 'failed', reason: await failure }
      child.unref()
      const started = await processStart(child.pid)
      const dueMs = (await uptimeMs()) + afterMs
      const entry: Entry = { unit, afterMs, dueMs, pid: child.pid, started: started ?? '' }
      await writeFileDurably(file(unit.name), JSON.stringify(entry))
      return { kind: 'started' }
    } finally {
      await output.close()
    }
  }
  const state = async (name: string): Promise<UnitState> => {
    try {
      const entry = await read(name)
      return entry && !(await isWaiting(entry)) ? { kind: 'running' } : { kind: 'gone' }
    } catch (error) {
      return { kind: 'unknown', reason: reasonOf(error) }
    }
  }
  const end = async (name: string, deadlineMs: number): Promise<UnitStop> => {
    const until = performance.now() + deadlineMs
    const entry = await read(name)
    if (!entry) return { kind: 'gone' }
    signalGroup(entry.pid, 'SIGTERM')
    const killAt = performance.now() + GRACE_MS
    while ((await processStart(entry.pid)) === entry.started) {
      if (performance.now() >= killAt) signalGroup(entry.pid, 'SIGKILL')
      if (performance.now() >= until) return { kind: 'alive', reason: `process ${entry.pid} is still there` }
      await pause(POLL_MS)
    }
    return { kind: 'gone' }
  }

  return {
    kind: 'processes',
    start: unit => launch(unit, 0),
    startTimer: ({ afterMs, ...unit }) => launch(unit, Math.max(1, Math.ceil(afterMs))),
    async stopTimer(name) {
      const entry = await read(name)
      if (entry && !(await isWaiting(entry))) return
      if (entry) await end(name, GRACE_MS * 2)
      await rm(file(name), { force: true })
    },
    async startLoaded(name) {
      const entry = await read(name)
      if (!entry) return { kind: 'failed', reason: `no unit ${name} is loaded` }
      if (!(await isWaiting(entry))) return { kind: 'started' }
      await end(name, GRACE_MS * 2)
      return await launch(entry.unit, 0)
    },
    stop: end,
    state,
    output: (name, cursor) => readLog(log(name), cursor),
    // Nothing of the machine this process really runs on counts.
    failed: async () => new Set<string>(),
    unsteady: async () => new Set<string>(),
    jobs: async () => [],
    isActive: async () => true,
    agentUnit: async () => ({ kind: 'not-ours' }),
    async restartAgent() {
      await config.restartAgent()
      return { kind: 'started' }
    },
    reboot: async () => ({ kind: 'failed', reason: 'a simulated machine has no boot of its own' }),
  }
}

/** Whether its time has not come; what it has started is a unit like any other. */
async function isWaiting({ afterMs, dueMs }: Entry): Promise<boolean> {
  return afterMs > 0 && (await uptimeMs()) < dueMs
}

async function uptimeMs(): Promise<number> {
  return Number((await readFile('/proc/uptime', 'utf8')).split(' ')[0]) * 1_000
}

/** Start time of a live process, in clock ticks since boot; undefined: it is gone, or only waits to be reaped. */
async function processStart(pid: number): Promise<string | undefined> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, 'utf8')
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19]
  } catch (error) {
    if (hasCode(error, 'ENOENT') || hasCode(error, 'ESRCH')) return undefined
    throw error
  }
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal)
  } catch (error) {
    if (!hasCode(error, 'ESRCH')) throw error
  }
}

async function readLog(path: string, cursor: string | undefined): Promise<UnitOutput> {
  const start = Number(cursor ?? 0)
  const size = await stat(path).then(
    found => found.size,
    () => 0,
  )
  if (size <= start) return { lines: [], cursor }
  const handle = await open(path, 'r')
  try {
    const bytes = Buffer.alloc(Math.min(size - start, MAX_OUTPUT_BYTES))
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, start)
    const text = bytes.subarray(0, bytesRead).toString('utf8')
    const whole = text.slice(0, text.lastIndexOf('\n') + 1)
    const lines: UnitLine[] = whole
      .split('\n')
      .slice(0, -1)
      .map(line => ({ text: line, identifier: '' }))
    return { lines, cursor: String(start + Buffer.byteLength(whole)) }
  } finally {
    await handle.close()
  }
}
