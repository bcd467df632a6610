import { type ChildProcess, spawn } from 'node:child_process'
import { findCommand } from './find-command.ts'
import type { CommandOptions, Ending } from './system.ts'

// INVARIANTS
// - Every child leads a process group of its own (`detached`), so signalling the group never reaches the agent.
// - A group is signalled only while its leader is not reaped or its pipes are still held by one of its members: only
//   then is its number surely still its own.
// - Every group still known when this process exits is killed. When this process is killed itself, the kernel kills
//   the leaders, where `setpriv` can ask for it; below systemd the unit's cgroup takes the rest.

export interface ProcessGroup {
  readonly child: ChildProcess
  /** Settles when the output is drained and the leader is gone, or shortly after the deadline at the latest. */
  readonly ended: Promise<{ readonly ending: Ending; readonly drained: boolean }>
  /** Ends the group: SIGTERM, and SIGKILL when that does not help. */
  cancel(): void
}

export type StartedGroup = ProcessGroup | Extract<Ending, { kind: 'not-found' | 'not-started' | 'cancelled' }>

/** How long a group may take to end after SIGTERM, and a pipe to drain after its command is gone. */
const GRACE_MS = 2_000

export interface ProcessGroups {
  start(
    command: string,
    args: readonly string[],
    options: CommandOptions & { readonly withInput: boolean },
  ): Promise<StartedGroup>
}

export interface ProcessGroupsConfig {
  /** Where commands are searched, as in PATH. */
  readonly path: string
  /** The environment of every command, beside PATH and LC_ALL. */
  readonly env: Readonly<Record<string, string>>
}

export function createProcessGroups({ path, env }: ProcessGroupsConfig): ProcessGroups {
  const living = new Set<number>()
  const killAll = () => {
    for (const pid of living) signalGroup(pid, 'SIGKILL')
  }
  const remember = (pid: number) => {
    if (living.size === 0) process.on('exit', killAll)
    living.add(pid)
  }
  const forget = (pid: number) => {
    living.delete(pid)
    if (living.size === 0) process.off('exit', killAll)
  }
  let wrapper: Promise<readonly string[]> | undefined

  return {
    async start(command, args, options) {
      const childEnv = { PATH: path, ...env, LC_ALL: 'C', ...options.env, ...nixConfig(env, options) }
      const file = await findCommand(command, childEnv.PATH)
      if (file === undefined) return { kind: 'not-found', command }
      wrapper ??= deathWrapper(path)
      const [program = file, ...before] = [...(await wrapper), file]
      if (options.signal?.aborted) return { kind: 'cancelled' }
      const child = spawn(program, [...before, ...args], {
        detached: true,
        env: childEnv,
        stdio: [options.withInput ? 'pipe' : 'ignore', 'pipe', 'pipe'],
        ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      })
      const failure = new Promise<Error>(resolve => child.once('error', resolve))
      if (child.pid === undefined) {
        return { kind: 'not-started', command, reason: (await failure).message }
      }
      remember(child.pid)
      return supervise(child, child.pid, options, forget)
    },
  }
}

/** Nix takes the last word on a setting, and reads these after all its files. */
function nixConfig(
  env: ProcessGroupsConfig['env'],
  { nixSettings }: CommandOptions,
): { readonly NIX_CONFIG?: string } {
  return nixSettings ? { NIX_CONFIG: [env.NIX_CONFIG ?? '', ...nixSettings].join('\n') } : {}
}

/** The words before a command that make the kernel kill it when this process dies, or none. */
async function deathWrapper(path: string): Promise<readonly string[]> {
  const setpriv = await findCommand('setpriv', path)
  if (setpriv === undefined) return []
  const words = [setpriv, '--pdeathsig', 'KILL', '--']
  const works = await new Promise<boolean>(resolve => {
    // Some builds of setpriv do not know the option; ask once by running something harmless.
    const probe = spawn(setpriv, [...words.slice(1), setpriv, '--version'], {
      stdio: 'ignore',
      timeout: 5_000,
    })
    probe.once('error', () => resolve(false))
    probe.once('close', code => resolve(code === 0))
  })
  return works ? words : []
}

function supervise(
  child: ChildProcess,
  pid: number,
  options: CommandOptions,
  forget: (pid: number) => void,
): ProcessGroup {
  let why: Extract<Ending, { kind: 'timed-out' | 'cancelled' }> | undefined
  let timer: NodeJS.Timeout | undefined
  let settled = false
  let seenBytes = 0
  const count = (chunk: Buffer) => {
    seenBytes += chunk.length
  }
  child.stdout?.on('data', count)
  child.stderr?.on('data', count)

  let settle: (end: { ending: Ending; drained: boolean }) => void
  const ended = new Promise<{ ending: Ending; drained: boolean }>(resolve => {
    settle = resolve
  })
  const finish = (ending: Ending, drained: boolean) => {
    if (settled) return
    settled = true
    clearTimeout(timer)
    clearTimeout(deadline)
    options.signal?.removeEventListener('abort', cancel)
    forget(pid)
    settle({ ending: why ?? ending, drained: drained && why === undefined })
  }
  /** Kills the group, stops reading, and gives up on a leader that even the kernel cannot end. */
  const kill = (ending: Ending) => {
    signalGroup(pid, 'SIGKILL')
    timer = setTimeout(() => {
      child.stdout?.destroy()
      child.stderr?.destroy()
      child.unref()
      finish(ending, false)
    }, GRACE_MS / 4)
  }
  const stop = (reason: Extract<Ending, { kind: 'timed-out' | 'cancelled' }>) => {
    if (why !== undefined || settled) return
    why = reason
    clearTimeout(timer)
    signalGroup(pid, 'SIGTERM')
    timer = setTimeout(() => kill(reason), GRACE_MS)
  }
  const cancel = () => stop({ kind: 'cancelled' })
  options.signal?.addEventListener('abort', cancel, { once: true })
  const deadline = setTimeout(
    () => stop({ kind: 'timed-out', deadlineMs: options.deadlineMs }),
    options.deadlineMs,
  )

  /** Whoever still holds the pipe outlived its parent: as long as it is silent it gets one more moment, then ends. */
  const watchDrain = (ending: Ending) => {
    const before = seenBytes
    timer = setTimeout(() => {
      const waiting = child.stdout?.isPaused() || child.stderr?.isPaused()
      if (seenBytes !== before || waiting) watchDrain(ending)
      else kill(ending)
    }, GRACE_MS)
  }
  child.once('exit', (code, signal) => {
    if (why === undefined) watchDrain(endingOf(code, signal))
  })
  child.once('close', (code, signal) => finish(endingOf(code, signal), true))
  return { child, ended, cancel }
}

function endingOf(code: number | null, signal: NodeJS.Signals | null): Ending {
  return code !== null
    ? { kind: 'exited', exitCode: code }
    : { kind: 'signalled', signal: signal ?? 'unknown' }
}

function signalGroup(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-pid, signal)
  } catch {
    // ESRCH: the group is already gone, which is what was wanted
  }
}
