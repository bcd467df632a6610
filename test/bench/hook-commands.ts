import { writeFile } from 'node:fs/promises'
import { Session } from 'node:inspector/promises'

const profiler = new Session()

/** Collects all garbage there is and gives pages back, as V8 does when memory runs low. */
async function collectGarbage(): Promise<NodeJS.MemoryUsage> {
  const collector = new Session()
  collector.connect()
  // What the first round finds dead may hold handles that are released after it.
  for (let round = 0; round < 4; round++) {
    await collector.post('HeapProfiler.collectGarbage')
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  collector.disconnect()
  return process.memoryUsage()
}

async function startProfile(): Promise<void> {
  profiler.connect()
  await profiler.post('Profiler.enable')
  await profiler.post('Profiler.setSamplingInterval', { interval: 500 })
  await profiler.post('Profiler.start')
}

async function stopProfile(path: string): Promise<void> {
  const { profile } = await profiler.post('Profiler.stop')
  profiler.disconnect()
  await writeFile(path, JSON.stringify(profile))
}

/** What every process that is measured answers. */
export const hookCommands = { collectGarbage, startProfile, stopProfile }
export type HookCommands = typeof hookCommands
