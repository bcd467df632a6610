import { readFileSync } from 'node:fs'

const LOOK_MS = 500

/**
 * Fires at SIGINT and SIGTERM, and when the npm that started this process is gone: npm ends at SIGTERM without waiting for
 * what it started, and would leave all of it behind.
 */
export function stopSignal(): AbortSignal {
  const controller = new AbortController()
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    // Once: a second signal ends the process at once, and its children with it.
    process.once(name, () => controller.abort(new Error(`received ${name}`)))
  }
  if (process.env.npm_lifecycle_event === 'start') watchNpm(() => controller.abort(new Error('npm is gone')))
  return controller.signal
}

function watchNpm(onGone: () => void): void {
  const parent = process.ppid
  // npm runs scripts by `sh -c`, which some shells replace by the program itself and others stay beside.
  const npm = isShell(parent) ? parentOf(parent) : undefined
  const timer = setInterval(() => {
    if (process.ppid === parent && (npm === undefined || parentOf(parent) === npm)) return
    clearInterval(timer)
    onGone()
  }, LOOK_MS)
  timer.unref()
}

function isShell(pid: number): boolean {
  return read(`/proc/${pid}/cmdline`).split('\0')[1] === '-c'
}

function parentOf(pid: number): number | undefined {
  const found = /^PPid:\t(\d+)$/m.exec(read(`/proc/${pid}/status`))?.[1]
  return found === undefined ? undefined : Number(found)
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return '' // gone, or a system without /proc
  }
}
