// Loaded into a process that is measured, before its own program (`node --import`): collects garbage and takes profiles
// when asked, so that the program itself needs no door for it.
import { writeFile } from 'node:fs/promises'
import { Session } from 'node:inspector/promises'
import { answerCommands } from './worker.ts'

const profiler = new Session()

async function collectGarbage(): Promise<NodeJS.MemoryUsage> {
  const { gc } = globalThis
  if (!gc) throw new Error('started without --expose-gc')
  // What the first round finds dead may hold handles that are released after it.
  for (let round = 0; round < 4; round++) {
    gc()
    await new Promise(resolve => setTimeout(resolve, 50))
  }
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

const commands = { collectGarbage, startProfile, stopProfile }
export type HookCommands = typeof commands

answerCommands(commands, { unref: true })
