import { setMaxListeners } from 'node:events'

/**
 * A controller whose signal any number may wait on at the same time. Node 20 takes eleven for a leak and says so on standard
 * error; a leak is rather what stays, since whoever waits takes their listener away when they are done.
 */
export function openToMany(): AbortController {
  const controller = new AbortController()
  setMaxListeners(0, controller.signal)
  return controller
}

/** What is released in reverse order of its acquisition; every release runs, errors are collected. */
export class Disposers implements AsyncDisposable {
  readonly #undo: (() => unknown)[] = []

  defer(undo: () => unknown): void {
    this.#undo.push(undo)
  }

  use<T extends AsyncDisposable | Disposable>(resource: T): T {
    this.defer(() =>
      Symbol.asyncDispose in resource ? resource[Symbol.asyncDispose]() : resource[Symbol.dispose](),
    )
    return resource
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const errors: unknown[] = []
    for (let undo = this.#undo.pop(); undo; undo = this.#undo.pop()) {
      try {
        await undo()
      } catch (error) {
        errors.push(error)
      }
    }
    if (errors.length === 1) throw errors[0]
    if (errors.length > 1) throw new AggregateError(errors, 'several resources could not be released')
  }
}

/** Thrown by `withDeadline` when the time is over. */
export class DeadlineError extends Error {
  override readonly name = 'DeadlineError'
}

/**
 * Runs `work` with a signal that fires when `signal` does or after `ms`. Linked by hand, because AbortSignal.any keeps
 * memory for as long as the long-lived signal lives.
 */
export async function withDeadline<T>(
  ms: number,
  signal: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const controller = openToMany()
  const forward = () => controller.abort(signal?.reason)
  if (signal?.aborted) forward()
  signal?.addEventListener('abort', forward, { once: true })
  const expired = new DeadlineError(`not done within ${ms} ms`)
  const timer = setTimeout(() => controller.abort(expired), ms)
  const stopped = new Promise<never>((_, reject) => {
    if (controller.signal.aborted) reject(controller.signal.reason)
    else controller.signal.addEventListener('abort', () => reject(controller.signal.reason), { once: true })
  })
  stopped.catch(() => {}) // the race below reports it; without a race in progress nobody would
  try {
    return await Promise.race([work(controller.signal), stopped])
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', forward)
  }
}

/** Resolves when the signal fires. */
export function untilAborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise(resolve => signal.addEventListener('abort', () => resolve(), { once: true }))
}

/** A signal that fires at SIGINT or SIGTERM. A second signal ends the process as the system would. */
export function signalOfProcess(): AbortSignal {
  const controller = openToMany()
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.once(name, () => controller.abort(new Error(`received ${name}`)))
  }
  return controller.signal
}

/** Waits, or returns early (without an error) when the signal fires. Says whether the time was waited out. */
export function pause(ms: number, signal?: AbortSignal): Promise<boolean> {
  if (signal?.aborted) return Promise.resolve(false)
  return new Promise(resolve => {
    const done = (whole: boolean) => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
      resolve(whole)
    }
    const onAbort = () => done(false)
    const timer = setTimeout(() => done(true), ms)
    signal?.addEventListener('abort', onAbort, { once: true })
  })
}
