import type { Socket } from 'node:net'
import { connectSoon } from './connect-soon.ts'

/** What a command in the machine came to. */
export interface GuestResult {
  /** As a shell sees it; below 0: ended by that signal. */
  readonly code: number
  readonly stdout: string
  readonly stderr: string
  /** Whether the deadline ended it. */
  readonly late: boolean
}

interface Waiting {
  readonly resolve: (result: GuestResult) => void
  readonly reject: (error: Error) => void
  readonly timer: NodeJS.Timeout
}

/** Two outputs of 4 MiB in base64, and what stands around them. */
const LONGEST_LINE = 12 << 20
/** How much longer than the guest's own deadline an answer is waited for: emulated machines are slow. */
const GRACE_SECONDS = 60

/**
 * The host's end of the virtio serial port that guest-control serves. It outlives the guest's boots: each begins with a
 * hello, and whatever was asked before is lost with the boot it was asked in.
 */
export class GuestChannel implements Disposable {
  readonly #socket: Socket
  readonly #waiting = new Map<number, Waiting>()
  #next = 1
  #rest: Buffer[] = []
  #restLength = 0
  #ended: Error | undefined
  /** The boot ids that said hello, in order. */
  readonly boots: string[] = []

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', data => this.#take(data))
    socket.on('error', error => this.#end(error))
    socket.on('close', () => this.#end(new Error('the machine is switched off')))
  }

  /** Connects to a socket that qemu is about to make. */
  static async open(path: string): Promise<GuestChannel> {
    return new GuestChannel(await connectSoon(path))
  }

  /** Runs a program in the machine. Throws when the machine went away, or started anew, before it answered. */
  async request(argv: readonly string[], input: string | Buffer, seconds: number): Promise<GuestResult> {
    if (this.#ended !== undefined) throw this.#ended
    const id = this.#next++
    return await new Promise<GuestResult>((resolve, reject) => {
      const timer = setTimeout(
        () => this.#fail(id, new Error(`no answer from the machine within ${seconds + GRACE_SECONDS} s`)),
        (seconds + GRACE_SECONDS) * 1000,
      )
      this.#waiting.set(id, { resolve, reject, timer })
      const request = { id, argv, input: Buffer.from(input).toString('base64'), seconds }
      this.#socket.write(`${JSON.stringify(request)}\n`)
    })
  }

  [Symbol.dispose](): void {
    this.#socket.destroy()
    this.#end(new Error('the machine is switched off'))
  }

  #take(data: Buffer): void {
    let from = 0
    for (let at = data.indexOf(10); at >= 0; at = data.indexOf(10, from)) {
      const line = Buffer.concat([...this.#rest, data.subarray(from, at)]).toString('utf8')
      this.#rest = []
      this.#restLength = 0
      from = at + 1
      if (line.trim() !== '') this.#takeLine(line)
    }
    const rest = data.subarray(from)
    this.#restLength += rest.length
    if (this.#restLength > LONGEST_LINE) this.#socket.destroy(new Error('the machine sent too long a line'))
    else if (rest.length > 0) this.#rest.push(rest)
  }

  #takeLine(line: string): void {
    const message = parseMessage(line)
    // What a boot that was cut off left half said.
    if (message === undefined) return
    if ('hello' in message) {
      this.#failAll(new Error('the machine started anew'))
      this.boots.push(message.hello)
      return
    }
    const waiting = this.#waiting.get(message.id)
    if (waiting === undefined) return
    clearTimeout(waiting.timer)
    this.#waiting.delete(message.id)
    waiting.resolve(message.result)
  }

  #fail(id: number, error: Error): void {
    const waiting = this.#waiting.get(id)
    if (waiting === undefined) return
    clearTimeout(waiting.timer)
    this.#waiting.delete(id)
    waiting.reject(error)
  }

  #failAll(error: Error): void {
    for (const id of [...this.#waiting.keys()]) this.#fail(id, error)
  }

  #end(error: Error): void {
    this.#ended ??= error
    this.#failAll(this.#ended)
  }
}

type Message = { readonly hello: string } | { readonly id: number; readonly result: GuestResult }

function parseMessage(line: string): Message | undefined {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    return undefined
  }
  if (typeof value !== 'object' || value === null) return undefined
  const fields: Record<string, unknown> = { ...value }
  if (typeof fields.hello === 'string') return { hello: fields.hello }
  const { id, code, stdout, stderr, late, cut } = fields
  if (typeof id !== 'number' || typeof code !== 'number') return undefined
  const text = (base64: unknown) =>
    typeof base64 === 'string' ? Buffer.from(base64, 'base64').toString('utf8') : ''
  const note = cut === true ? '\n… more than 4 MiB was printed' : ''
  return { id, result: { code, stdout: text(stdout), stderr: text(stderr) + note, late: late === true } }
}
