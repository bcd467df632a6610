import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type Finished, Program } from '../../support/program.ts'
import { tail } from '../run.ts'
import { GuestChannel } from './guest-channel.ts'
import { Monitor, type ShutdownReason } from './monitor.ts'
import { CONTROL_SOCKET, MONITOR_SOCKET, type QemuOptions, qemuArguments } from './qemu-arguments.ts'

/** qemu from power on to power off. */
export class Emulator {
  readonly #program: Program
  readonly channel: GuestChannel
  readonly monitor: Monitor

  private constructor(program: Program, channel: GuestChannel, monitor: Monitor) {
    this.#program = program
    this.channel = channel
    this.monitor = monitor
  }

  /** `launch` stands in front of the command, to run it in another network. */
  static async start(launch: readonly string[], options: QemuOptions): Promise<Emulator> {
    const { folder } = options
    const sockets = [join(folder, CONTROL_SOCKET), join(folder, MONITOR_SOCKET)] as const
    // What an emulator before this one left would refuse whoever comes first.
    for (const socket of sockets) await rm(socket, { force: true })
    // Ends with this process, however that ends.
    const command = ['--pdeathsig', 'KILL', ...launch, 'qemu-system-x86_64', ...qemuArguments(options)]
    const program = new Program('setpriv', command, { cwd: folder })
    const failed = program.finished.then(({ stderr }) => {
      throw new Error(`qemu ended: ${tail(stderr)}`)
    })
    failed.catch(() => {}) // of interest only while the connections are being made
    try {
      const channel = await Promise.race([GuestChannel.open(sockets[0]), failed])
      const monitor = await Promise.race([Monitor.open(sockets[1]), failed])
      return new Emulator(program, channel, monitor)
    } catch (error) {
      await program.kill()
      throw error
    }
  }

  get running(): boolean {
    return this.#program.running
  }

  /** What it printed: its complaints. */
  get said(): string {
    return this.#program.stderr
  }

  /** Why its power ended; undefined: it was killed, or fell. */
  async untilOff(): Promise<ShutdownReason | undefined> {
    const { code } = await this.#program.finished
    this.channel[Symbol.dispose]()
    this.monitor[Symbol.dispose]()
    return code === 0 ? this.monitor.shutdownReason : undefined
  }

  async kill(): Promise<Finished> {
    return await this.#program.kill('SIGKILL')
  }
}
