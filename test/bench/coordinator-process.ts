import { closeSync, mkdirSync, openSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { credentials } from '@grpc/grpc-js'
import type { GetFleetResponse } from '../../shared/gen/muster/v1/fleet_pb.ts'
import { OperatorService } from '../../shared/gen/muster/v1/operator_pb.ts'
import { createClient, type RpcClient } from '../../shared/rpc/client.ts'
import type { HookCommands } from './hook-commands.ts'
import type { Places } from './places.ts'
import { Worker } from './worker.ts'

const START_MS = 30_000

/** The coordinator as `npm run build` makes it, in a process of its own with a configuration like a user's. */
export class CoordinatorProcess implements AsyncDisposable {
  readonly process: Worker<HookCommands>
  readonly operator: RpcClient<typeof OperatorService>
  readonly fleet: GetFleetResponse
  readonly enrolmentPort: number
  readonly fleetPort: number

  private constructor(
    process: Worker<HookCommands>,
    operator: RpcClient<typeof OperatorService>,
    fleet: GetFleetResponse,
  ) {
    this.process = process
    this.operator = operator
    this.fleet = fleet
    this.enrolmentPort = portOf(fleet.enrolmentAddress)
    this.fleetPort = portOf(fleet.fleetAddress)
  }

  /** Starts one on a state folder, new or with state in it, and waits until it answers. */
  static async start(places: Places, stateDir: string): Promise<CoordinatorProcess> {
    mkdirSync(stateDir, { recursive: true, mode: 0o700 })
    const configFile = join(stateDir, 'bench-config.json')
    await writeFile(
      configFile,
      JSON.stringify({
        stateDir,
        enrolmentListen: '127.0.0.1:0',
        fleetListen: '127.0.0.1:0',
        names: ['127.0.0.1'],
      }),
    )
    const logFile = join(stateDir, 'bench-log')
    const log = openSync(logFile, 'a')
    const worker = new Worker<HookCommands>(places.program('coordinator'), ['--config', configFile], {
      name: 'the coordinator',
      nodeArgs: ['--import', places.bundle('hook')],
      output: log,
    })
    closeSync(log)
    const operator = createClient(
      OperatorService,
      `unix:${join(stateDir, 'coordinator.sock')}`,
      credentials.createInsecure(),
      { 'grpc.max_receive_message_length': 64 * 1024 * 1024 },
    )
    try {
      return new CoordinatorProcess(worker, operator, await untilReady(worker, operator))
    } catch (error) {
      operator[Symbol.dispose]()
      await worker[Symbol.asyncDispose]()
      const tail = (await readFile(logFile, 'utf8')).slice(-4000)
      throw new Error(`the coordinator did not start:\n${tail}`, { cause: error })
    }
  }

  /** Runs `work`, and where a folder is given writes a profile of what the coordinator did meanwhile. */
  async profiled<T>(folder: string | undefined, name: string, work: () => Promise<T>): Promise<T> {
    if (folder === undefined) return await work()
    mkdirSync(folder, { recursive: true })
    await this.process.ask('startProfile', undefined)
    try {
      return await work()
    } finally {
      await this.process.ask('stopProfile', join(folder, `${name}.cpuprofile`))
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.operator[Symbol.dispose]()
    await this.process[Symbol.asyncDispose]()
  }
}

async function untilReady(
  { child }: Worker<HookCommands>,
  operator: RpcClient<typeof OperatorService>,
): Promise<GetFleetResponse> {
  const until = Date.now() + START_MS
  for (;;) {
    try {
      return await operator.getFleet({}, { deadlineMs: 1_000 })
    } catch (error) {
      if (Date.now() > until || child.exitCode !== null || child.signalCode !== null) throw error
      await sleep(50)
    }
  }
}

function portOf(address: string): number {
  return Number(address.slice(address.lastIndexOf(':') + 1))
}
