import { status } from '@grpc/grpc-js'
import type { Encoded } from '../../shared/rpc/definition.ts'
import type { LiveSession, SessionMessage } from './live-session.ts'

type Next = IteratorResult<SessionMessage | Encoded, undefined>

/**
 * What a session sends, from its greeting on. Written by hand, because a generator keeps its frame, its parameters and a
 * promise or two for every connected machine.
 */
export class SessionStream implements AsyncIterableIterator<SessionMessage | Encoded, undefined, undefined> {
  #begin: (() => Promise<LiveSession>) | undefined
  readonly #onLeft: (session: LiveSession) => void
  #session: LiveSession | undefined
  #isLeft = false

  constructor(begin: () => Promise<LiveSession>, onLeft: (session: LiveSession) => void) {
    this.#begin = begin
    this.#onLeft = onLeft
  }

  next(): Promise<Next> {
    return this.#session?.outbox.next() ?? this.#first()
  }

  /** Ends the session, whatever waits for it. */
  async return(): Promise<Next> {
    if (!this.#isLeft) {
      this.#isLeft = true
      this.#leave()
    }
    return { done: true, value: undefined }
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  async #first(): Promise<Next> {
    const begin = this.#begin
    this.#begin = undefined
    if (!begin || this.#isLeft) return { done: true, value: undefined }
    this.#session = await begin()
    // It may have gone while it was being let in.
    if (this.#isLeft) this.#leave()
    return await this.#session.outbox.next()
  }

  #leave(): void {
    if (!this.#session) return
    this.#session.end(status.CANCELLED, 'the machine went away')
    this.#onLeft(this.#session)
  }
}
