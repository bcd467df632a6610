import { readFileSync } from 'node:fs'

/** A process and when it started, so that another one with the same number is not taken for it. */
export interface ProcessIdentity {
  readonly pid: number
  /** In clock ticks since the boot. */
  readonly started: string
}

/** Undefined: there is no such process. */
export function identityOf(pid: number): ProcessIdentity | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // The second field is a name in parentheses that may hold anything.
    const started = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
    return started === undefined ? undefined : { pid, started }
  } catch {
    return undefined
  }
}

export function isRunning({ pid, started }: ProcessIdentity): boolean {
  return identityOf(pid)?.started === started
}

/** Reads what was kept of a process as "PID STARTED"; undefined when it is no such text. */
export function parseIdentity(text: string): ProcessIdentity | undefined {
  const [, pid, started] = /^(\d+) (\d+)\s*$/.exec(text) ?? []
  return pid === undefined || started === undefined ? undefined : { pid: Number(pid), started }
}

export const formatIdentity = ({ pid, started }: ProcessIdentity): string => `${pid} ${started}\n`

/** Processes whose parent is `pid`. */
export function childrenOf(pid: number): readonly number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean).map(Number)
  } catch {
    return []
  }
}

/** Whether the process is the first of a process namespace inside this one. */
export function isLeader(pid: number): boolean {
  try {
    const numbers = /^NSpid:\s+(.+)$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]?.split(/\s+/)
    return numbers !== undefined && numbers.length > 1 && numbers.at(-1) === '1'
  } catch {
    return false
  }
}
