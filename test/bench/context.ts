import type { ClientCommands } from './client.ts'
import type { FloorCommands, FloorStart } from './floor-server.ts'
import type { BenchOptions } from './options.ts'
import type { Places } from './places.ts'
import { Worker } from './worker.ts'

/** What every measurement uses. */
export interface BenchContext {
  readonly options: BenchOptions
  readonly places: Places
  /** The process of the emulated agents; the same one for all measurements. */
  readonly client: Worker<ClientCommands>
  /** Index of the first machine's twin at the client; the others follow. */
  readonly twins: number
  /** Starts the floors anew in a process of their own. */
  startFloor(): Promise<Floor>
  /** Whether another round may begin: the first always, later ones while the run is younger than this. */
  mayRepeat(round: number, untilSeconds: number): boolean
  /** Tells how it goes. */
  note(text: string): void
}

/** The servers that the coordinator is held against. */
export interface Floor extends AsyncDisposable {
  readonly worker: Worker<FloorCommands>
  readonly tlsPort: number
  readonly http2Port: number
}

export async function startFloor(places: Places, certificate: FloorStart): Promise<Floor> {
  const worker = new Worker<FloorCommands>(places.bundle('floor-server'), [], {
    name: 'the floor',
  })
  const ports = await worker.ask('start', certificate)
  return { worker, ...ports, [Symbol.asyncDispose]: () => worker[Symbol.asyncDispose]() }
}
