import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { credentials, status } from '@grpc/grpc-js'
import type { GetFleetResponse } from '../../shared/gen/muster/v1/fleet_pb.ts'
import { OperatorService } from '../../shared/gen/muster/v1/operator_pb.ts'
import { createClient, type RpcClient } from '../../shared/rpc/client.ts'
import { RpcError } from '../../shared/rpc/rpc-error.ts'
import { ChildProgram } from './child-program.ts'
import { until } from './until.ts'

export interface LocalCoordinatorOptions {
  readonly top: string
  /** Everything of it lies below. */
  readonly folder: string
  readonly socket: string
  readonly log: string
  readonly listen: string
  /** The address that machines are told. */
  readonly advertised: string
  readonly enrolmentPort: number
  readonly fleetPort: number
  /** Laid over its configuration. */
  readonly more?: object
}

/** A coordinator as a child of this process, with its API by the local socket. */
export class LocalCoordinator implements AsyncDisposable {
  readonly #options: LocalCoordinatorOptions
  readonly api: RpcClient<typeof OperatorService>
  #child: ChildProgram | undefined

  constructor(options: LocalCoordinatorOptions) {
    this.#options = options
    this.api = createClient(OperatorService, `unix:${options.socket}`, credentials.createInsecure())
  }

  get child(): ChildProgram | undefined {
    return this.#child
  }

  /** Starts it, again on the same state, and waits until it answers. */
  async start(signal: AbortSignal): Promise<GetFleetResponse> {
    const { top, folder, socket, log, listen, advertised, enrolmentPort, fleetPort, more } = this.#options
    await mkdir(folder, { recursive: true, mode: 0o700 })
    const config = join(folder, 'coordinator.json')
    const host = listen.includes(':') ? `[${listen}]` : listen
    await writeFile(
      config,
      JSON.stringify(
        {
          stateDir: join(folder, 'state'),
          enrolmentListen: `${host}:${enrolmentPort}`,
          fleetListen: `${host}:${fleetPort}`,
          fleetAddress: addressOf(advertised, fleetPort),
          names: [advertised],
          socket,
          ...more,
        },
        undefined,
        2,
      ),
    )
    const child = new ChildProgram({ top, program: 'coordinator', config, log })
    this.#child = child
    return await until('the coordinator answers', signal, async () => {
      if (!child.running) {
        throw new Error(
          `the coordinator ${await child.ended}:\n${child.lastLines.join('\n')}\nAll of it: ${child.logFile}`,
        )
      }
      try {
        return await this.api.getFleet({}, { deadlineMs: 2_000 })
      } catch (error) {
        if (error instanceof RpcError && error.code === status.UNAVAILABLE) return undefined
        if (error instanceof RpcError && error.code === status.DEADLINE_EXCEEDED) return undefined
        throw error
      }
    })
  }

  async stop(): Promise<void> {
    await this.#child?.stop()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
    this.api[Symbol.dispose]()
  }
}

export function addressOf(host: string, port: number): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`
}
