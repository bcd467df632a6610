import { readFile } from 'node:fs/promises'
import { loadavg } from 'node:os'
import { timestampFromDate } from '@bufbuild/protobuf/wkt'
import type { Outgoing } from './sender.ts'

/** A beat. A made-up machine tells nothing of the real one's load. */
export async function makeHeartbeat(now: Date, simulated: boolean): Promise<Outgoing> {
  const memory = simulated ? undefined : await readMemoryAvailable()
  const load = simulated ? undefined : loadavg()[0]
  return {
    message: {
      case: 'heartbeat',
      value: {
        now: timestampFromDate(now),
        ...(load === undefined ? {} : { load }),
        ...(memory === undefined ? {} : { memoryAvailable: memory }),
      },
    },
  }
}

async function readMemoryAvailable(): Promise<bigint | undefined> {
  try {
    return parseMemoryAvailable(await readFile('/proc/meminfo', 'utf8'))
  } catch {
    return undefined // not known is what the message can say
  }
}

/** MemAvailable in bytes. */
export function parseMemoryAvailable(meminfo: string): bigint | undefined {
  const [, kib] = /^MemAvailable:\s+(\d+) kB$/m.exec(meminfo) ?? []
  return kib === undefined ? undefined : BigInt(kib) * 1024n
}
