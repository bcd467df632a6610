import { readdir, readFile } from 'node:fs/promises'

/** Resident memory of a process in bytes. */
export async function residentBytes(pid: number): Promise<number> {
  const [, kib] = /^VmRSS:\s+(\d+) kB$/m.exec(await readFile(`/proc/${pid}/status`, 'utf8')) ?? []
  if (kib === undefined) throw new Error(`/proc/${pid}/status: has no VmRSS`)
  return Number(kib) * 1024
}

/**
 * Processor time of all threads of a process in nanoseconds. Of schedstat, because the clock ticks of /proc/PID/stat are
 * as long as an idle agent works in ten seconds.
 */
export async function processorNs(pid: number): Promise<number> {
  let sum = 0
  for (const thread of await readdir(`/proc/${pid}/task`)) {
    const text = await readFile(`/proc/${pid}/task/${thread}/schedstat`, 'utf8')
    sum += Number(text.split(' ')[0])
  }
  return sum
}

/** Runs `work` and says what processor time a process took meanwhile: on a busy machine that varies less than the clock. */
export async function withProcessorTime<T>(
  pid: number,
  work: () => Promise<T>,
): Promise<{ readonly result: T; readonly processorMs: number }> {
  const before = await processorNs(pid)
  const result = await work()
  return { result, processorMs: ((await processorNs(pid)) - before) / 1e6 }
}
