import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

const DEADLINE_MS = 10_000

/**
 * Ends what stands for the units of a made-up machine: processes that outlive its agent, as units do, and are written down
 * in its state folder. One that ends may have started another, so it looks until none is left.
 */
export async function endMadeUpUnits(stateDir: string): Promise<void> {
  for (const until = Date.now() + DEADLINE_MS; ; await sleep(20)) {
    const left = await liveMadeUpUnits(stateDir)
    if (left.length === 0) return
    if (Date.now() > until) throw new Error(`${stateDir}: units do not end: ${left.map(String).join(', ')}`)
    for (const pid of left) {
      try {
        process.kill(-pid, 'SIGKILL')
      } catch {
        // It ended meanwhile.
      }
    }
  }
}

/** Leaders of the processes that stand for units of a made-up machine and live. */
export async function liveMadeUpUnits(stateDir: string): Promise<readonly number[]> {
  const folder = join(stateDir, 'units')
  const names = await readdir(folder).catch(() => [])
  const found = await Promise.all(
    names
      .filter(name => name.endsWith('.json'))
      .map(async name => {
        try {
          const entry: { pid: number; started: string } = JSON.parse(
            await readFile(join(folder, name), 'utf8'),
          )
          const text = await readFile(`/proc/${entry.pid}/stat`, 'utf8')
          const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
          return fields[0] !== 'Z' && fields[19] === entry.started ? [entry.pid] : []
        } catch {
          return [] // gone
        }
      }),
  )
  return found.flat()
}
