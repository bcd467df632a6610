import type { Socket } from 'node:net'
import { connectSoon } from './connect-soon.ts'

interface Waiting {
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

/** What ended the machine's power: qemu's word, as `guest-reset`, `guest-shutdown` or `guest-panic`. */
export type ShutdownReason = string

/** qemu's monitor (QMP): gives it commands, and hears why the guest's power ends. */
export class Monitor implements Disposable {
  readonly #socket: Socket
  readonly #waiting: Waiting[] = []
  #rest = ''
  shutdownReason: ShutdownReason | undefined

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.setEncoding('utf8').on('data', (text: string) => this.#take(text))
    socket.on('error', () => {}) // the close that follows tells all who wait
    socket.on('close', () => {
      for (const { reject } of this.#waiting.splice(0)) reject(new Error('the monitor closed'))
    })
  }

  static async open(path: string): Promise<Monitor> {
    const monitor = new Monitor(await connectSoon(path))
    await monitor.command('qmp_capabilities')
    return monitor
  }

  /** Done when qemu says so. */
  async command(name: string): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      this.#socket.write(`${JSON.stringify({ execute: name })}\n`)
    })
  }

  [Symbol.dispose](): void {
    this.#socket.destroy()
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split('\n')
    this.#rest = lines.pop() ?? ''
    for (const line of lines) {
      const message: unknown = JSON.parse(line)
      if (typeof message !== 'object' || message === null) continue
      if ('return' in message) this.#waiting.shift()?.resolve()
      else if ('error' in message) this.#waiting.shift()?.reject(new Error(line))
      else if ('event' in message && message.event === 'SHUTDOWN')
        this.shutdownReason = /"reason": *"([^"]*)"/.exec(line)?.[1]
    }
  }
}
