// One process speaks with another by questions and answers over Node's own channel.
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'

/** What a process answers: each command takes one value and gives a promise. */
export type Commands = { readonly [name: string]: (input: never) => unknown }

type Input<C extends Commands, K extends keyof C> = Parameters<C[K]>[0]
type Output<C extends Commands, K extends keyof C> = Awaited<ReturnType<C[K]>>

interface Question {
  readonly id: number
  readonly name: string
  readonly input: unknown
}
interface Answer {
  readonly id: number
  readonly output?: unknown
  readonly error?: string
}

/** A process of its own that answers commands. */
export class Worker<C extends Commands> implements AsyncDisposable {
  readonly child: ChildProcess
  readonly #waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>()
  readonly #name: string
  #next = 0
  #stopping = false

  constructor(
    file: string,
    args: readonly string[] = [],
    options: {
      readonly name: string
      readonly nodeArgs?: readonly string[]
      /** File its output goes to; absent: that of this process. */
      readonly output?: number
    },
  ) {
    this.#name = options.name
    this.child = fork(file, [...args], {
      execArgv: [...(options.nodeArgs ?? [])],
      serialization: 'advanced',
      stdio: ['ignore', options.output ?? 'inherit', options.output ?? 'inherit', 'ipc'],
    })
    // A cast: what comes are the answers of `answerCommands` below, written in this very file.
    this.child.on('message', message => this.#settle(message as Answer))
    this.child.on('exit', (code, signal) => {
      if (this.#stopping) return
      this.#failAll(
        new Error(`${this.#name} ended (${signal ?? `exit ${code}`}); what it printed stands above`),
      )
    })
  }

  get pid(): number {
    const { pid } = this.child
    if (pid === undefined) throw new Error(`${this.#name} could not be started`)
    return pid
  }

  ask<K extends keyof C & string>(name: K, input: Input<C, K>): Promise<Output<C, K>> {
    const id = this.#next++
    return new Promise((resolve, reject) => {
      // A cast: the process answers the command `name` with what its type says.
      this.#waiting.set(id, { resolve: value => resolve(value as Output<C, K>), reject })
      const question: Question = { id, name, input }
      this.child.send(question, error => {
        if (error) this.#failAll(error)
      })
    })
  }

  #settle({ id, output, error }: Answer): void {
    const waiting = this.#waiting.get(id)
    this.#waiting.delete(id)
    if (error === undefined) waiting?.resolve(output)
    else waiting?.reject(new Error(`${this.#name}: ${error}`))
  }

  #failAll(error: Error): void {
    for (const { reject } of this.#waiting.values()) reject(error)
    this.#waiting.clear()
  }

  /** Ends the process at once: what counts is on its disk, and what it would tidy up is no part of any measurement. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping = true
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    const ended = once(this.child, 'exit')
    this.child.kill('SIGKILL')
    await ended
  }
}

/** Answers the commands that come over this process's channel. With `unref` the channel does not keep it alive. */
export function answerCommands<C extends Commands>(commands: C, { unref = false } = {}): void {
  const answer = async ({ id, name, input }: Question): Promise<Answer> => {
    const command = commands[name]
    if (!command) return { id, error: `no command ${name}` }
    try {
      // A cast: the other side's types let only the command's own input through.
      return { id, output: await command(input as never) }
    } catch (error) {
      return { id, error: error instanceof Error ? (error.stack ?? error.message) : String(error) }
    }
  }
  process.on('message', message => {
    // A cast: only a Worker writes to this channel.
    void answer(message as Question).then(told => process.send?.(told))
  })
  if (unref) process.channel?.unref()
  else process.channel?.ref()
}
