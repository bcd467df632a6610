import { randomBytes } from 'node:crypto'
import { AgentService } from '../../shared/gen/muster/v1/agent_pb.ts'
import type { RawMachine } from './raw-machine.ts'

/** A file that makes a tree larger than what lies between a coordinator and a machine that does not read. */
export const LARGE_FILES = { 'large.txt': randomBytes(4 * 1024 * 1024).toString('base64') }

export interface SlowDownload extends Disposable {
  /** Reads on to the end: how many bytes came in all, and what it ended with. */
  rest(): Promise<{ readonly bytes: number; readonly end: unknown }>
}

/** A download of the tree of a revision, of which the machine takes the first piece and then nothing more until it is told to. */
export async function downloadSlowly(raw: RawMachine, number = 1n): Promise<SlowDownload> {
  const client = await raw.fleetClient(AgentService)
  const pieces = client.downloadTree({ number })[Symbol.asyncIterator]()
  const first = await pieces.next()
  let bytes = first.done ? 0 : first.value.chunk.length
  return {
    async rest() {
      try {
        for (let next = await pieces.next(); !next.done; next = await pieces.next()) {
          bytes += next.value.chunk.length
        }
        return { bytes, end: 'complete' }
      } catch (end) {
        return { bytes, end }
      }
    },
    [Symbol.dispose]: () => client[Symbol.dispose](),
  }
}
